// Sealport is killed in each step of a release: after the next start the release goes to its end, and nothing of the
// first try is left.

import { cpSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { expect, type Page, test } from "@playwright/test";

import { ROOT, Sealport } from "../support/sealport.ts";
import { bind, inspect, reaches, type Wanted, welcome } from "../support/steps.ts";

let sealport: Sealport;
let page: Page;

test.describe.configure({ mode: "serial" });
test.setTimeout(600_000);

test.beforeAll(async ({ browser }) => {
  const before = new Sealport();
  const sources = join(before.dir, "sources");
  mkdirSync(join(sources, "moody"), { recursive: true });
  cpSync(join(ROOT, "tests/fixtures/moody-server.mjs"), join(sources, "moody/server.mjs"));
  sealport = before;
  await sealport.start({ SEALPORT_DIR_ROOTS: sources });
  page = await browser.newPage();
  await welcome(page, sealport);
});

test.afterAll(async () => {
  await page.close();
  await sealport.remove();
});

const cases: { step: string; wanted: () => Wanted }[] = [
  { step: "Fetch", wanted: () => ({ kind: "npm package", source: "@modelcontextprotocol/server-everything", name: "in-fetch" }) },
  { step: "Install", wanted: () => ({ kind: "PyPI package", source: "mcp-server-time", name: "in-install" }) },
  {
    step: "Handshake",
    wanted: () => ({
      kind: "Directory of this machine",
      source: join(sealport.dir, "sources/moody"),
      command: "node server.mjs",
      plain: { MOOD: "slow" },
      name: "in-handshake",
    }),
  },
];

for (const { step, wanted } of cases) {
  test(`killed in the step ${step}`, async () => {
    const what = wanted();
    await inspect(page, sealport, what);
    await bind(page, what);
    await page.getByRole("button", { name: "Deploy", exact: true }).click();
    await page.waitForURL(new RegExp(`/deployments/${what.name}$`));
    const begun = page.locator("#release").getByRole("listitem").filter({ hasText: step });
    await expect(begun).toContainText(/running|under way/, { timeout: 120_000 });
    const first = processes();
    await sealport.stop("SIGKILL");
    await expect.poll(() => processes().filter((pid) => first.includes(pid)), { timeout: 30_000 }).toEqual([]);

    await sealport.start();
    await page.goto(`${sealport.url}/deployments/${what.name}`);
    await reaches(page, "Running");
    await expect(page.getByRole("heading", { name: "Release 1" })).toBeVisible();
    await expect(begun).toContainText("done");
  });
}

/** What runs in this Sealport's guests, installers included. */
function processes(): number[] {
  const found: number[] = [];
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      if (readFileSync(`/proc/${pid}/mountinfo`, "latin1").includes(`${sealport.data}/guests/`)) found.push(Number(pid));
    } catch {
      // It has ended since.
    }
  }
  return found;
}
