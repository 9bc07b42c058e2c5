// A provider's page: a key goes in and never out, and its provider says what it can do.

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

import { expect, test } from "@playwright/test";

import { Sealport } from "../support/sealport.ts";
import { canary, welcome } from "../support/steps.ts";

const KEY = `rnd_${canary()}`;

let sealport: Sealport;
/** As much of Render as answers what a key reaches. */
let render: Server;

test.beforeAll(async () => {
  render = createServer((asked, answer) => {
    const known = asked.headers.authorization === `Bearer ${KEY}`;
    answer.writeHead(known ? 200 : 401, { "content-type": "application/json" });
    const owner = { id: "tea-1", name: "Shop", email: "shop@example.org", type: "team" };
    answer.end(JSON.stringify(known ? [{ owner, cursor: "" }] : { id: "e", message: "Unauthorized" }));
  });
  await new Promise<void>((done) => render.listen(0, "127.0.0.1", done));
  const { port } = render.address() as AddressInfo;
  sealport = await Sealport.started({
    SEALPORT_RENDER_API: `http://127.0.0.1:${port}/v1`,
    SEALPORT_SOURCE_HOSTS: `127.0.0.1:${port}`,
  });
});

test.afterAll(async () => {
  await sealport.remove();
  render.close();
  render.closeAllConnections();
});

test("a key is sealed and checked on its provider's page", async ({ page }) => {
  await welcome(page, sealport);
  await page.goto(`${sealport.url}/settings`);
  await page.getByRole("link", { name: "Connect Render" }).click();
  await expect(page.getByRole("heading", { name: "Connect Render" })).toBeVisible();
  await expect(page.getByText("No secret in your sight has Render in its path yet.")).toBeVisible();

  // What is no path is not said again.
  await page.getByLabel("Path of another secret").fill(KEY);
  await page.getByRole("button", { name: "Check", exact: true }).click();
  await expect(page.getByText("never the key itself. What was typed was not kept.")).toBeVisible();
  expect(await page.content()).not.toContain(KEY);

  await page.getByLabel("Value").fill("rnd_notTheRightOne0123456789");
  await page.getByRole("button", { name: "Seal and add" }).click();
  await expect(page.getByText("It cannot be shown here again.")).toBeVisible();
  expect(new URL(page.url()).pathname).toBe("/settings/render");
  await page.getByRole("button", { name: "Check meta/render/api_key" }).click();
  await expect(page.getByText("Render does not take this key")).toBeVisible();

  // Another one at the same path is led to where it is replaced.
  await page.getByLabel("Value").fill(KEY);
  await page.getByRole("button", { name: "Seal and add" }).click();
  await expect(page.getByText("A secret with this path is stored already")).toBeVisible();
  await page.getByLabel("Value").fill(KEY);
  await page.getByLabel("Path", { exact: true }).fill("RENDER_KEY");
  await page.getByRole("button", { name: "Seal and add" }).click();
  await page.getByRole("button", { name: "Check RENDER_KEY" }).click();
  await expect(page.getByText("Render takes RENDER_KEY.")).toBeVisible();
  await expect(page.getByText("every service in Shop (team)")).toBeVisible();
  await expect(page.getByText("tea-1")).toBeVisible();
  expect(await page.content()).not.toContain(KEY);

  // It was opened, on record.
  await page.goto(`${sealport.url}/activity`);
  await expect(page.getByText("to check what the key can do").first()).toBeVisible();
  expect(sealport.said).not.toContain(KEY);
});
