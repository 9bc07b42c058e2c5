// A gateway token is shown once: no page takes it away before it is read.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "@playwright/test";

import { Sealport } from "../support/sealport.ts";
import { connect, deploy, state, welcome } from "../support/steps.ts";

test("without scripts a page that follows a start waits while it shows a token", async ({ browser }) => {
  test.setTimeout(300_000);
  const sealport = new Sealport();
  try {
    const source = join(sealport.dir, "sources/slow");
    mkdirSync(source, { recursive: true });
    // It never says that it is ready.
    writeFileSync(join(source, "wait.mjs"), "setInterval(() => {}, 1_000);\n");
    await sealport.start({ SEALPORT_DIR_ROOTS: join(sealport.dir, "sources") });
    const page = await (await browser.newContext({ javaScriptEnabled: false })).newPage();
    await welcome(page, sealport);
    await deploy(page, sealport, { kind: "Directory of this machine", source, command: "node wait.mjs", name: "slow" });
    const follows = async () => (await page.content()).includes(`http-equiv="refresh"`);
    await expect(state(page)).toContainText("Deploying");
    expect(await follows()).toBe(true);
    await connect(page);
    await expect(state(page)).toContainText("Deploying");
    expect(await follows()).toBe(false);
    await page.goto(`${sealport.url}/deployments/slow`);
    await expect(page.locator("#token")).toHaveCount(0);
    expect(await follows()).toBe(true);
  } finally {
    await sealport.remove();
  }
});
