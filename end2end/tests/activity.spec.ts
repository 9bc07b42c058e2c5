// The record in the browser, with and without JavaScript: filtered, drawn by day, exported; and whole, as the operator's command says.

import { readFile } from "node:fs/promises";

import { AxeBuilder } from "@axe-core/playwright";
import { expect, type Page, test } from "@playwright/test";

import { Sealport } from "../support/sealport.ts";
import { addSecret, ADMIN, canary, openFolding, welcome } from "../support/steps.ts";

let sealport: Sealport;
let page: Page;
const values: string[] = [];
const today = () => new Date().toISOString().slice(0, 10);

test.describe.configure({ mode: "serial" });

test.beforeAll(async ({ browser }, testInfo) => {
  test.setTimeout(300_000);
  sealport = await Sealport.started();
  const context = await browser.newContext({ javaScriptEnabled: testInfo.project.use.javaScriptEnabled ?? true, acceptDownloads: true });
  page = await context.newPage();
  await welcome(page, sealport);
  for (const path of ["project/shop/API_KEY", "project/shop/DATABASE_URL", "OTHER"]) {
    const value = canary();
    values.push(value);
    await addSecret(page, sealport, { path, value });
  }
});

test.afterAll(async () => {
  for (const value of values) expect(sealport.said).not.toContain(value);
  await page.close();
  await sealport.remove();
});

const list = () => page.getByRole("main").getByRole("list").getByRole("listitem");

async function filter(fields: Record<string, string>, action?: string): Promise<void> {
  await page.goto(`${sealport.url}/activity`);
  for (const [label, text] of Object.entries(fields)) await page.getByLabel(label, { exact: true }).fill(text);
  if (action) await page.getByLabel("Action").selectOption({ label: action });
  await page.getByRole("button", { name: "Filter" }).click();
  await page.waitForURL(/\/activity\?/);
}

test("a secret says how often it was used, and leads to all that is on record about it", async () => {
  await page.goto(`${sealport.url}/secrets/${ADMIN.handle}/OTHER`);
  const recent = page.getByRole("region", { name: "Recent activity" });
  await expect(recent).toContainText("Used never.");
  await openFolding(page, "Compare with what you have");
  await page.getByLabel("Value to compare").fill("a wrong guess");
  await page.getByRole("button", { name: "Compare", exact: true }).click();
  await expect(recent).toContainText("Used once, last just now.");
  await recent.getByRole("link", { name: "All activity" }).click();
  await expect(page.getByText("Only what is about one secret")).toBeVisible();
  await expect(list()).toHaveCount(2);
  await expect(list().first()).toContainText("compared a value with OTHER");
});

test("the record is filtered by path, person, action and day", async () => {
  await filter({ Path: "shop/" });
  await expect(list()).toHaveCount(2);
  await expect(page.getByLabel("Path", { exact: true })).toHaveValue("shop/");
  await filter({ Who: ADMIN.handle }, "secret: compared a value with");
  await expect(list()).toHaveCount(1);
  await filter({ From: today(), To: today() }, "All about secrets");
  await expect(list()).toHaveCount(4);
  await filter({ To: "2020-01-01" });
  await expect(page.getByText("Nothing on record matches.")).toBeVisible();
  await page.getByRole("link", { name: "Show everything" }).first().click();
  await expect(list().filter({ hasText: "project/shop/API_KEY" })).toHaveCount(1);
});

test("what cannot be a day is said at its field", async () => {
  await page.goto(`${sealport.url}/activity?from=31.3.2027`);
  await expect(page.getByText("Write the day as in 2027-03-31, or leave it empty.")).toBeVisible();
  await expect(list()).toHaveCount(0);
});

test("the drawing has a table behind it", async () => {
  await filter({}, "All about secrets");
  await expect(page.getByRole("img", { name: /On record by day, .* 4 in all, most on / })).toBeVisible();
  await page.getByText("As a table").click();
  const row = page.getByRole("table", { name: "Rows on record by day" }).getByRole("row").filter({ hasText: today() });
  await expect(row.getByRole("cell")).toHaveText(["4", "0"]);
});

test("what the filter shows is exported as CSV and as JSON lines, without a value", async () => {
  for (const format of ["CSV", "JSON lines"]) {
    await filter({ Path: "shop/" });
    const saved = page.waitForEvent("download");
    await page.getByRole("button", { name: format, exact: true }).click();
    const download = await saved;
    const ending = format === "CSV" ? "csv" : "jsonl";
    expect(download.suggestedFilename()).toBe(`sealport-activity-${today()}.${ending}`);
    const text = await readFile(await download.path(), "utf8");
    for (const value of values) expect(text).not.toContain(value);
    const lines = text.trim().split(/\r?\n/);
    if (format === "CSV") {
      expect(lines).toHaveLength(3);
      expect(lines[0]).toBe("id,at,actor_kind,actor,action,outcome,path,version,deployment,release,address,agent,grantee,level,reason");
      expect(lines[1]).toContain('"secret.create","done","project/shop/DATABASE_URL","1"');
    } else {
      expect(lines.map((line) => JSON.parse(line).path)).toEqual(["project/shop/DATABASE_URL", "project/shop/API_KEY"]);
    }
  }
  await filter({}, "exported the record");
  await expect(list()).toHaveCount(2);
});

test("the operator's command finds the record whole while the server runs, and nothing waits to be sealed for long", async () => {
  let said = "";
  await expect(async () => {
    said = await sealport.command(["audit", "verify"]);
    expect(said).toContain("Not sealed yet: 0");
  }).toPass({ timeout: 60_000 });
  const link = /^Link: (\d+:[0-9a-f]{64})$/m.exec(said)?.[1] ?? "";
  expect(await sealport.command(["audit", "verify", "--link", link])).toContain("Sealed and whole");
  for (const value of values) expect(said).not.toContain(value);
});

test("it breaks nothing for those who do not see it", async ({}, testInfo) => {
  test.skip(testInfo.project.use.javaScriptEnabled === false, "axe is a script");
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    for (const path of ["/activity", "/activity?from=x&action=secret", "/activity?path=nothing-like-it"]) {
      await page.goto(sealport.url + path);
      const table = page.getByText("As a table");
      if (await table.count()) await table.click();
      // Two copies of the same types: the one of axe knows an older Playwright.
      const { violations } = await new AxeBuilder({ page: page as never }).analyze();
      expect(violations.map(({ id, nodes }) => `${path}: ${id}: ${nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`)).toEqual([]);
    }
  }
});
