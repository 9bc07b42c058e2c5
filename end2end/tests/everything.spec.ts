// Servers of every kind of source, real clients of both SDKs, and what happens when things go wrong.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { expect, type Page, test } from "@playwright/test";

import { callByNode, callByPython, textOf } from "../support/clients.ts";
import { GitHost } from "../support/git-host.ts";
import { ROOT, Sealport } from "../support/sealport.ts";
import { addSecret, canary, connect, deploy, type Gateway, reaches, state, welcome } from "../support/steps.ts";

const FETCH_KEY = canary();
const value = canary();
let sealport: Sealport;
let git: GitHost;
let page: Page;
let everything: Gateway;

test.describe.configure({ mode: "serial" });
test.setTimeout(600_000);

test.beforeAll(async ({ browser }) => {
  git = await GitHost.open(FETCH_KEY);
  sealport = await Sealport.started({ ...git.settings, HOST_ONLY: "of the host's own" });
  page = await browser.newPage();
  await welcome(page, sealport);
});

test.afterAll(async () => {
  expect(sealport.said).not.toContain(value);
  expect(sealport.said).not.toContain(FETCH_KEY);
  await page.close();
  await sealport.remove();
  git.close();
});

async function openPage(name: string): Promise<void> {
  await page.goto(`${sealport.url}/deployments/${name}`);
}

test("an npm server sees the bound name, and its callers see the mask", async () => {
  await addSecret(page, sealport, { path: "project/shop/PAYMENT_KEY", value });
  await deploy(page, sealport, {
    kind: "npm package",
    source: "@modelcontextprotocol/server-everything",
    secrets: { PAYMENT_KEY: "project/shop/PAYMENT_KEY" },
    plain: { GREETING: "hello there" },
    name: "everything",
  });
  await reaches(page, "Running");
  everything = await connect(page);
  for (const call of [callByNode, callByPython]) {
    const result = await call(everything.url, everything.token, "get-env");
    const seen = JSON.parse(textOf(result)) as Record<string, string>;
    expect(seen.PAYMENT_KEY).toBe("[sealed]");
    expect(seen.GREETING).toBe("hello there");
    expect(seen.HOST_ONLY).toBeUndefined();
    expect(Object.keys(seen).sort()).toEqual(["GREETING", "HOME", "LANG", "NODE_ENV", "PATH", "PAYMENT_KEY", "PORT"]);
    expect(JSON.stringify(result)).not.toContain(value);
  }
});

test("clients at the same time get their own answers", async () => {
  const words = ["one", "two", "three", "four"];
  const answers = await Promise.all(words.map((message) => callByNode(everything.url, everything.token, "echo", { message })));
  expect(answers.map(textOf)).toEqual(words.map((word) => `Echo: ${word}`));
});

test("a server from PyPI", async () => {
  await deploy(page, sealport, { kind: "PyPI package", source: "mcp-server-time", name: "what-time" });
  await reaches(page, "Running");
  const { url, token } = await connect(page);
  const result = await callByPython(url, token, "get_current_time", { timezone: "Europe/Lisbon" });
  expect(textOf(result)).toContain("Europe/Lisbon");
  await expect(callByNode(everything.url, token, "--list")).rejects.toThrow("Send a gateway token of this deployment");
});

test("a server that speaks HTTP", async () => {
  await deploy(page, sealport, {
    kind: "npm package",
    source: "@modelcontextprotocol/server-everything",
    command: "node dist/index.js streamableHttp",
    transport: "HTTP",
    secrets: { PAYMENT_KEY: "project/shop/PAYMENT_KEY" },
    name: "over-http",
  });
  await reaches(page, "Running");
  const { url, token } = await connect(page);
  for (const call of [callByNode, callByPython]) {
    const seen = JSON.parse(textOf(await call(url, token, "get-env"))) as Record<string, string>;
    expect(seen.PAYMENT_KEY).toBe("[sealed]");
  }
});

test("a private repository, fetched with a key that the server does not get", async () => {
  const source = git.repository("private-tools", "main", "server", join(ROOT, "end2end/fixtures/echo"));
  await addSecret(page, sealport, { path: "meta/git/FETCH_KEY", value: FETCH_KEY });
  await deploy(page, sealport, {
    kind: "Git repository over https",
    source,
    folder: "server",
    fetchKey: "meta/git/FETCH_KEY",
    name: "from-private-git",
  });
  await reaches(page, "Running");
  const { url, token } = await connect(page);
  const said = textOf(await callByNode(url, token, "get-env"));
  expect(said).not.toContain("FETCH_KEY");
  expect(said).not.toContain("[sealed]");
});

test("a folder of a git repository's branch, over https", async () => {
  const source = git.repository("tools", "release", "servers/echo", join(ROOT, "end2end/fixtures/echo"));
  await deploy(page, sealport, {
    kind: "Git repository over https",
    source,
    reference: "release",
    folder: "servers/echo",
    secrets: { PAYMENT_KEY: "project/shop/PAYMENT_KEY" },
    name: "from-git",
  });
  await reaches(page, "Running");
  const { url, token } = await connect(page);
  const said = textOf(await callByNode(url, token, "get-env"));
  expect(said).toContain("PAYMENT_KEY=[sealed]");
  await openPage("from-git");
  await expect(page.locator("[data-log]")).toContainText("PAYMENT_KEY=[sealed]");
  expect(await page.content()).not.toContain(value);
});

test("a server that exits without its key says so, with its last words", async () => {
  await deploy(page, sealport, { kind: "npm package", source: "@brave/brave-search-mcp-server", name: "no-key" });
  await reaches(page, "Failed");
  await expect(state(page)).toContainText("BRAVE_API_KEY");
  const steps = page.locator("#release").getByRole("listitem");
  await expect(steps.filter({ hasText: "Install" })).toContainText("done");
  await expect(steps.filter({ hasText: /^Handshake/ })).not.toContainText("done");
  await expect(page.locator("[data-log]")).toContainText("BRAVE_API_KEY");
});

test("after a kill -9 of Sealport all that was wanted runs again, and nothing is orphaned", async () => {
  const before = guests();
  expect(before.length).toBeGreaterThanOrEqual(3);
  await sealport.stop("SIGKILL");
  await sealport.start();
  for (const name of ["everything", "what-time", "from-git"]) {
    await openPage(name);
    await reaches(page, "Running");
  }
  const result = await callByNode(everything.url, everything.token, "get-env");
  expect(textOf(result)).toContain("[sealed]");
  await openPage("no-key");
  await expect(state(page)).toContainText("Failed");
  await expect.poll(() => guests().filter((pid) => before.includes(pid))).toEqual([]);
  expect(guests().length).toBe(before.length);
});

test("when Sealport stops, its guests stop with it", async () => {
  await sealport.stop();
  expect(guests()).toEqual([]);
  await sealport.start();
});

/** The processes of deployed servers, wherever they run: those whose working or root directory is a guest's. */
function guests(): number[] {
  const found: number[] = [];
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const environ = readFileSync(`/proc/${pid}/environ`, "latin1");
      const mounts = readFileSync(`/proc/${pid}/mountinfo`, "latin1");
      if (environ.includes("NODE_ENV=production") && mounts.includes(sealport.data)) found.push(Number(pid));
    } catch {
      // It has ended since.
    }
  }
  return found;
}
