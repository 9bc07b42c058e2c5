// A key that the far service does not take any more: seen on the caller's page and the owner's, mended by one click, and well again.

import { createHash } from "node:crypto";
import { cpSync, mkdirSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

import { expect, type Page, test } from "@playwright/test";

import { callByNode, textOf } from "../support/clients.ts";
import { Searcher } from "../support/leaks.ts";
import { ROOT, Sealport } from "../support/sealport.ts";
import { canary, connect, deploy, type Gateway, reaches, welcome } from "../support/steps.ts";

const NAME = "shop";
const [revoked, good] = [canary(), canary()];
let sealport: Sealport;
let far: Server;
let page: Page;
let gateway: Gateway;

test.describe.configure({ mode: "serial" });
test.setTimeout(600_000);

test.beforeAll(async ({ browser }, testInfo) => {
  // It answers 401 until the good token comes.
  far = createServer((request, answer) => {
    answer.statusCode = request.headers.authorization === `Bearer ${good}` ? 200 : 401;
    answer.end("welcome");
  });
  await new Promise<void>((listening) => far.listen(0, "127.0.0.1", listening));
  sealport = new Sealport();
  const sources = join(sealport.dir, "sources");
  mkdirSync(join(sources, NAME), { recursive: true });
  cpSync(join(ROOT, "tests/fixtures/own-server.mjs"), join(sources, NAME, "server.mjs"));
  await sealport.start({ SEALPORT_DIR_ROOTS: sources, SEALPORT_SOURCE_HOSTS: "127.0.0.1" });
  const javaScriptEnabled = testInfo.project.use.javaScriptEnabled ?? true;
  page = await (await browser.newContext({ javaScriptEnabled })).newPage();
  await welcome(page, sealport);
});

test.afterEach(async () => {
  expect(new Searcher({ revoked, good }).in(await page.content())).toEqual([]);
});

test.afterAll(async () => {
  far.close();
  expect(new Searcher({ revoked, good }).in(sealport.said)).toEqual([]);
  await sealport.remove();
});

const here = () => `${sealport.url}/connect/${NAME}`;
const slot = () => page.getByRole("region", { name: "SHOP_KEY", exact: true });
const standing = () => page.getByRole("region", { name: "Standing" });
const person = () => page.getByRole("region", { name: "Connected people" }).getByRole("listitem").filter({ hasText: "ada" });
const ask = () => callByNode(gateway.url, gateway.token, "ask", { port: (far.address() as AddressInfo).port });

test("a key that was good once is connected", async () => {
  await deploy(page, sealport, {
    kind: "Directory of this machine",
    source: join(sealport.dir, "sources", NAME),
    command: "node server.mjs",
    name: NAME,
    brought: ["SHOP_KEY"],
  });
  await reaches(page, "Running");
  gateway = await connect(page);
  await page.goto(here());
  await expect(standing()).toContainText("Starts with");
  await expect(standing()).toContainText("server.mjs");
  await expect(standing()).toContainText("It may open connections to the outside");
  await slot().getByLabel("Value").fill(revoked);
  await slot().getByRole("button", { name: /^Connect/ }).click();
  await expect(slot().getByText("Connected", { exact: true })).toBeVisible();
});

test("the tool's answer passes as it is, and the page says what it means", async () => {
  const answer = await ask();
  expect(answer.isError).toBe(true);
  expect(textOf(answer)).toBe("Error: Request failed with status code 401");
  await expect(async () => {
    await page.goto(here());
    await expect(standing()).toContainText("The far service refused your keys", { timeout: 500 });
  }).toPass({ timeout: 30_000 });
  await expect(slot().getByText("Refused", { exact: true })).toBeVisible();
  await page.goto(`${sealport.url}/deployments/${NAME}`);
  await expect(person()).toContainText("Refused by the far service");
});

test("one click leads to the field, and a new value mends it", async () => {
  await page.goto(here());
  await standing().getByRole("link", { name: "Replace SHOP_KEY" }).click();
  await expect(slot().getByLabel("New value")).toBeFocused();
  await page.keyboard.insertText(good);
  await slot().getByRole("button", { name: /^Replace/ }).click();
  await expect(slot().getByText("Connected", { exact: true })).toBeVisible();
  await expect(standing()).toContainText("Connected. Your calls run");
  const answer = await ask();
  expect(textOf(answer)).toBe("welcome");
  const digest = await callByNode(gateway.url, gateway.token, "key");
  expect(textOf(digest)).toBe(createHash("sha256").update(good).digest("hex"));
  await page.goto(here());
  await expect(slot().getByText("Connected", { exact: true })).toBeVisible();
  await page.goto(`${sealport.url}/deployments/${NAME}`);
  await expect(person()).toContainText("Connected");
});
