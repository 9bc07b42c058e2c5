// A deployed server that pries: into the key file, the data directory, the database's socket, Sealport's environment,
// another guest's files, and by the network into the dashboard and another guest. Each try fails, by name.

import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

import { expect, type Page, test } from "@playwright/test";

import { callByNode, textOf } from "../support/clients.ts";
import { ROOT, Sealport } from "../support/sealport.ts";
import { addSecret, canary, connect, deploy, reaches, welcome } from "../support/steps.ts";

const value = canary();
let sealport: Sealport;
let page: Page;

test.setTimeout(600_000);

test.beforeAll(async ({ browser }) => {
  sealport = new Sealport();
  const sources = join(sealport.dir, "sources");
  mkdirSync(sources);
  cpSync(join(ROOT, "end2end/fixtures/prying"), join(sources, "prying"), { recursive: true });
  await sealport.start({ SEALPORT_DIR_ROOTS: sources, ONLY_SEALPORTS_OWN: "of its environment" });
  page = await browser.newPage();
  await welcome(page, sealport);
});

test.afterAll(async () => {
  await page.close();
  await sealport.remove();
});

test("a server sees its own, and nothing of Sealport's or of another server's", async () => {
  await addSecret(page, sealport, { path: "ANOTHERS_KEY", value });
  const wanted = { kind: "Directory of this machine" as const, source: join(sealport.dir, "sources/prying") };
  await deploy(page, sealport, { ...wanted, secrets: { ANOTHERS_KEY: "ANOTHERS_KEY" }, name: "another" });
  await reaches(page, "Running");
  await deploy(page, sealport, { ...wanted, name: "prying" });
  await reaches(page, "Running");
  const { url, token } = await connect(page);
  const attempt = async (what: string, how: Record<string, unknown> = {}): Promise<{ ok?: unknown; no?: string }> =>
    JSON.parse(textOf(await callByNode(url, token, "try", { what, ...how }))) as { ok?: unknown; no?: string };

  // What it may do works, so that what follows can fail for the right reason.
  expect(await attempt("read", { path: "/srv/app/server.mjs" })).toHaveProperty("ok");
  expect(await attempt("write", { path: "/data/own" })).toHaveProperty("ok");
  expect(await attempt("list", { path: "/usr/bin" })).toHaveProperty("ok");

  const files = everyFile(sealport.data);
  const key = files.filter((path) => path.endsWith("master.key"));
  const sockets = files.filter((path) => statSync(path).isSocket());
  const anothers = files.filter((path) => path.endsWith("/app/server.mjs"));
  expect(key).toHaveLength(1);
  expect(sockets.length).toBeGreaterThan(0);
  expect(anothers).toHaveLength(2);
  for (const path of [...key, ...anothers, sealport.data, `/proc/${sealport.pid}/environ`, `/proc/${sealport.pid}/mem`]) {
    expect(existsSync(path), path).toBe(true);
    expect(await attempt("read", { path }), `reads ${path}`).not.toHaveProperty("ok");
  }
  for (const path of [sealport.data, join(sealport.data, "guests"), sealport.dir, "/root", `/proc/${sealport.pid}`]) {
    expect(await attempt("list", { path }), `lists ${path}`).not.toHaveProperty("ok");
  }
  for (const path of sockets) {
    expect(await attempt("connect", { path }), `connects to ${path}`).not.toHaveProperty("ok");
  }
  for (const path of [join(sealport.data, "pried"), "/usr/bin/pried", "/etc/pried"]) {
    expect(await attempt("write", { path }), `writes ${path}`).not.toHaveProperty("ok");
    expect(existsSync(path), path).toBe(false);
  }
  const port = Number(new URL(sealport.url).port);
  for (const host of ["127.0.0.1", "10.0.2.2", "host.sealport.internal", ...ownAddresses()]) {
    expect(await attempt("connect", { host, port }), `connects to the dashboard at ${host}`).not.toHaveProperty("ok");
  }
  const seen = String((await attempt("processes")).ok);
  expect(seen).toContain("server.mjs");
  for (const foreign of [value, "ONLY_SEALPORTS_OWN", "ANOTHERS_KEY", "postgres", "serve --data"]) expect(seen).not.toContain(foreign);
});

/** Every file below a directory and below where it says that the rest is. */
function everyFile(dir: string): string[] {
  const note = join(dir, "where-the-rest-is.txt");
  const places = existsSync(note) ? [dir, ...(/\/\S+/.exec(readFileSync(note, "utf8")) ?? [])] : [dir];
  const found: string[] = [];
  for (let place = places.pop(); place; place = places.pop()) {
    for (const entry of readdirSync(place, { withFileTypes: true })) {
      const path = join(place, entry.name);
      if (entry.isDirectory()) places.push(path);
      else found.push(path);
    }
  }
  return found;
}

/** The machine's own addresses beyond loopback. */
function ownAddresses(): string[] {
  const table = readFileSync("/proc/net/fib_trie", "utf8").split("\n");
  const own = table.flatMap((line, at) => (line.includes("/32 host LOCAL") ? [table[at - 1]?.replace(/.*-- /, "").trim() ?? ""] : []));
  return [...new Set(own)].filter((address) => address !== "" && !address.startsWith("127."));
}
