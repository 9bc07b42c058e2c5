// What looks like SQL or script is text: in every field of the wizard, in what a source says of itself, in what a server
// prints and answers, in the names of tokens and in searches.

import { cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";

import { expect, type Page, test } from "@playwright/test";

import { ROOT, Sealport } from "../support/sealport.ts";
import { addSecret, canary, inspect, reaches, welcome } from "../support/steps.ts";

const PAYLOADS = [`<script>document.title='owned'</script>`, `"><img src=x onerror="document.title='owned'">`, `'; drop table secrets; --`];
let sealport: Sealport;
let page: Page;
let asked = false;

test.describe.configure({ mode: "serial" });
test.setTimeout(600_000);

test.beforeAll(async ({ browser }) => {
  sealport = new Sealport();
  const sources = join(sealport.dir, "sources");
  mkdirSync(sources);
  cpSync(join(ROOT, "end2end/fixtures/payloads"), join(sources, "payloads"), { recursive: true });
  await sealport.start({ SEALPORT_DIR_ROOTS: sources });
  page = await browser.newPage();
  page.on("dialog", (dialog) => {
    asked = true;
    void dialog.dismiss();
  });
  await welcome(page, sealport);
  await addSecret(page, sealport, { path: "SHOP_KEY", value: canary() });
});

test.afterAll(async () => {
  await page.close();
  await sealport.remove();
});

test.afterEach(async () => {
  expect(await page.title()).not.toContain("owned");
  expect(asked).toBe(false);
  // Nothing was dropped meanwhile.
  await page.goto(`${sealport.url}/secrets`);
  await expect(page.getByRole("main")).toContainText("SHOP_KEY");
});

test("typed into the wizard's fields", async () => {
  await page.goto(`${sealport.url}/deploy`);
  await page.getByRole("button", { name: "New deployment" }).click();
  await page.waitForURL(/\/source$/);
  const draft = /deploy\/([0-9a-f-]+)\//.exec(page.url())?.[1] ?? "";
  for (const payload of PAYLOADS) {
    await page.goto(`${sealport.url}/deploy/${draft}/source`);
    await page.getByLabel("It is a").selectOption({ label: "Git repository over https" });
    for (const field of ["Package, repository, image or directory", "Branch, tag or commit", "Folder in the repository"]) {
      await page.getByLabel(field).fill(payload);
    }
    // Open already where a command was kept.
    if (!(await page.getByLabel("Command").isVisible())) await page.getByText("Private source, other command").click();
    await page.getByLabel("Command").fill(payload);
    await page.getByRole("button", { name: "Look at it" }).click();
    await expect(page.getByRole("alert").first()).toBeVisible();
    await expect(page.getByLabel("Package, repository, image or directory")).toHaveValue(payload);
    await page.goto(`${sealport.url}/deploy/${draft}/target`);
    await page.getByLabel("Name", { exact: true }).fill(payload);
    await page.getByRole("button", { name: "Go on to the review" }).click();
    // The field takes no more than a name can have.
    await expect(page.getByLabel("Name", { exact: true })).toHaveValue(payload.slice(0, 39));
    await expect(page.getByLabel("Name", { exact: true })).toHaveAttribute("aria-invalid", "true");
  }
  await page.goto(`${sealport.url}/deploy`);
  await expect(page.getByRole("main")).toContainText(PAYLOADS[2] ?? "");
});

test("said by a source, printed by a server, given as a name", async () => {
  await inspect(page, sealport, { kind: "Directory of this machine", source: join(sealport.dir, "sources/payloads"), name: "payloads" });
  await expect(page.getByRole("main")).toContainText("drop table secrets");
  await page.getByRole("button", { name: "Go on to secrets" }).click();
  await page.waitForURL(/\/secrets$/);
  await page.getByLabel("Name of plain variable 1").fill("GREETING");
  await page.getByLabel("Text of plain variable 1").fill(PAYLOADS[1] ?? "");
  await page.getByRole("button", { name: "Go on to the target" }).click();
  await page.waitForURL(/\/target$/);
  await page.getByLabel("Name", { exact: true }).fill("payloads");
  await page.getByRole("button", { name: "Go on to the review" }).click();
  await page.waitForURL(/\/review$/);
  await page.getByRole("button", { name: "Deploy", exact: true }).click();
  await page.waitForURL(/\/deployments\/payloads$/);
  await reaches(page, "Running");
  // Lines that were there when the page was opened, and one that comes while it is open.
  const log = page.locator("[data-log]");
  await expect(log).toContainText("<script>document.title='owned'</script>");
  await expect(log).toContainText("drop table log_lines");
  await expect(page.locator("#release")).toContainText("<script>");
  await expect(page.getByRole("main")).toContainText(PAYLOADS[1] ?? "");
  await page.getByRole("button", { name: "Redeploy", exact: true }).click();
  await expect(page.getByRole("heading", { name: "Release 2" })).toBeVisible();
  await reaches(page, "Running");

  for (const payload of PAYLOADS) {
    await page.goto(`${sealport.url}/deployments/payloads`);
    await page.getByLabel("What the token is for").fill(payload);
    await page.getByRole("button", { name: "Make a token" }).click();
    await expect(page.getByText("Copy the token now. It cannot be shown again.")).toBeVisible();
    await page.goto(`${sealport.url}/tokens`);
    await expect(page.getByRole("main")).toContainText(payload);
    await page.goto(`${sealport.url}/activity?path=${encodeURIComponent(payload)}`);
    await expect(page.getByLabel("Path", { exact: true })).toHaveValue(payload);
    expect(await page.title()).not.toContain("owned");
  }
});
