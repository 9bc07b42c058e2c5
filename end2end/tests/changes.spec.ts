// A changed value arrives: the deployment's page and the secret's say that an older one runs, one click brings the
// newest, and where the owner chose so it comes by itself. The same value again restarts nothing.

import { cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";

import { expect, type Page, test } from "@playwright/test";

import { callByNode, textOf } from "../support/clients.ts";
import { ROOT, Sealport } from "../support/sealport.ts";
import { act, addSecret, canary, connect, deploy, openFolding, reaches, state, welcome } from "../support/steps.ts";

test.setTimeout(600_000);

const PATH = "service/changing/KEY";

/** Replaces the value on the secret's page. */
async function replace(page: Page, sealport: Sealport, value: string): Promise<void> {
  await page.goto(`${sealport.url}/secrets/ada/${PATH}?open=replace`);
  await page.locator("#replace").getByLabel("New value").fill(value);
  await page.locator("#replace").getByRole("button", { name: "Seal and replace" }).click();
  await expect(page.getByText("It cannot be shown here again.").first()).toBeVisible();
}

test("a changed value is said, redeployed by one click, and by itself where that was chosen", async ({ page }) => {
  const sealport = new Sealport();
  try {
    const sources = join(sealport.dir, "sources");
    mkdirSync(sources);
    cpSync(join(ROOT, "end2end/fixtures/prying"), join(sources, "prying"), { recursive: true });
    await sealport.start({ SEALPORT_DIR_ROOTS: sources });
    await welcome(page, sealport);
    const first = canary();
    await addSecret(page, sealport, { path: PATH, value: first });
    await deploy(page, sealport, {
      kind: "Directory of this machine",
      source: join(sources, "prying"),
      secrets: { KEY: PATH },
      name: "changing",
    });
    await reaches(page, "Running");
    const { url, token } = await connect(page);
    const here = `${sealport.url}/deployments/changing`;
    const release = async (number: number) => {
      await page.goto(here);
      await expect(page.getByRole("heading", { name: `Release ${number}` })).toBeVisible();
      await reaches(page, "Running");
    };
    // The value itself is masked in every answer, so its length tells which one the server has.
    const environment = async (): Promise<number> => {
      const answer = textOf(await callByNode(url, token, "try", { what: "read", path: "/proc/self/environ" }));
      return (JSON.parse(answer) as { ok: number }).ok;
    };
    const before = await environment();

    await test.step("the same value again is no change", async () => {
      await replace(page, sealport, first);
      await expect(page.locator("#runs")).toContainText("the newest value, version 1");
      await page.goto(here);
      await expect(state(page)).not.toContainText("Runs an older value");
    });

    await test.step("another value is said on both pages, and one click brings it", async () => {
      await replace(page, sealport, `${canary()}-longer`);
      await expect(page.locator("#runs")).toContainText("an older value, version 1");
      await page.goto(here);
      await expect(state(page)).toContainText("Runs an older value of KEY");
      expect(await environment()).toBe(before);
      await act(page, "Redeploy");
      await release(2);
      await expect(state(page)).not.toContainText("Runs an older value");
      expect(await environment()).toBe(before + 7);
    });

    await test.step("where the owner chose so, it comes by itself", async () => {
      await page.getByRole("button", { name: "Redeploy by itself on a change" }).click();
      await expect(page.getByText("It redeploys by itself when the value of a bound secret changes.")).toBeVisible();
      await replace(page, sealport, `${canary()}-longer-still`);
      await expect(async () => {
        await page.goto(here);
        await expect(page.getByRole("heading", { name: "Release 3" })).toBeVisible({ timeout: 1_000 });
      }).toPass({ timeout: 60_000 });
      await release(3);
      expect(await environment()).toBe(before + 13);
      await openFolding(page, "Earlier releases");
      await expect(page.locator("#release")).toContainText("asked for by sealport");
    });
  } finally {
    await sealport.remove();
  }
});
