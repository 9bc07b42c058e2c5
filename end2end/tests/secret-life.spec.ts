// A secret with a life, in the browser, with and without JavaScript: history and rolling back, the tree, what is due.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { expect, type Page, test } from "@playwright/test";

import { ROOT, type Sealport } from "../support/sealport.ts";
import { addSecret, ADMIN, compare, neverShown, openFolding, replace } from "../support/steps.ts";

let sealport: Sealport;
let page: Page;
const value = neverShown((shared) => ({ sealport, page } = shared));

const open = (path: string) => page.goto(`${sealport.url}/secrets/${ADMIN.handle}/${path}`);
const status = () => page.getByRole("status");
const versions = () => page.getByRole("region", { name: "Versions" }).getByRole("listitem");
const day = (ahead: number) => new Date(Date.now() + ahead * 86_400_000).toISOString().slice(0, 10);

/** Opens a folder of the tree, if it is closed. */
async function unfold(name: string): Promise<void> {
  const folder = page.locator("details").filter({ has: page.locator("summary").getByText(name, { exact: true }) }).last();
  if ((await folder.getAttribute("open")) === null) await folder.locator("summary").first().click();
}

test("an old version becomes the newest again, and says from where", async () => {
  const first = value();
  await addSecret(page, sealport, { path: "project/shop/STRIPE_KEY", value: first });
  const second = value();
  await replace(page, second);
  await expect(versions()).toHaveCount(2);
  await expect(versions().first()).toContainText(`by ${ADMIN.handle}`);
  await expect(versions().first()).toContainText("from 127.0.0.1");
  await page.getByRole("button", { name: "Roll back to version 1" }).click();
  await expect(status()).toContainText("Version 3 has the value of version 1.");
  await expect(page.getByText("Sealed, version 3")).toBeVisible();
  await expect(versions().first()).toContainText("the value of version 1");
  await compare(page, first, "The same:");
  await compare(page, second, "Different:");
});

test("one version is destroyed by its typed number, and the newest offers no such thing", async () => {
  await open("project/shop/STRIPE_KEY");
  await expect(versions().first().getByRole("link", { name: "Destroy" })).toHaveCount(0);
  await page.getByRole("link", { name: "Destroy version 2" }).click();
  await page.getByLabel("Type 2 to confirm").fill("1");
  await page.getByRole("button", { name: "Destroy this version" }).click();
  await expect(page.getByText("That is not this version's number. Nothing was destroyed.").first()).toBeVisible();
  await page.getByLabel("Type 2 to confirm").fill("2");
  await page.getByRole("button", { name: "Destroy this version" }).click();
  await expect(status()).toContainText("Version 2 is destroyed.");
  await expect(versions().nth(1)).toContainText("Destroyed");
  await expect(page.getByRole("button", { name: "Roll back to version 2" })).toHaveCount(0);
  await expect(page.getByRole("button", { name: "Roll back to version 1" })).toBeVisible();
});

test("folders open and close, have addresses, and lead back", async () => {
  await addSecret(page, sealport, { path: "BARE_KEY", value: value() });
  await addSecret(page, sealport, { path: "project/shop/eu/DATABASE_URL", value: `postgres://u:${value()}@db/x`, kind: "Database URL" });
  await page.goto(`${sealport.url}/secrets`);
  await expect(page.getByRole("table", { name: "Secrets", exact: true })).toContainText("BARE_KEY");
  // A small tree begins unfolded.
  const inside = page.getByRole("table", { name: "Secrets in project/shop", exact: true });
  await expect(inside).toContainText("STRIPE_KEY");
  await page.locator("summary").filter({ hasText: "project" }).first().click();
  await expect(inside).toBeHidden();
  await unfold("project");
  await expect(inside).toBeVisible();
  await page.getByRole("link", { name: "Open project/shop by itself" }).click();
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("shop");
  await expect(page.getByRole("main")).not.toContainText("BARE_KEY");
  await expect(page.getByRole("table", { name: "Secrets in project/shop/eu" })).toContainText("DATABASE_URL");
  await page.getByRole("navigation", { name: "Breadcrumb" }).getByRole("link", { name: "project" }).click();
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("project");
  await page.goto(`${sealport.url}/secrets?owner=${ADMIN.handle}&under=project/nothing`);
  await expect(page.getByText("Nothing of what you may see stands here.")).toBeVisible();
  await page.goto(`${sealport.url}/secrets?under=project/..%2F..`);
  await expect(page.getByRole("heading", { name: "Secrets", level: 1 })).toBeVisible();
});

test("one form edits all but the value, and lists are narrowed by it", async () => {
  await open("BARE_KEY");
  await openFolding(page, "Edit details");
  await page.getByLabel(/^Tags/).fill("Not A Tag!");
  await page.getByRole("button", { name: "Save", exact: true }).first().click();
  await expect(page.getByLabel(/^Tags/)).toHaveAttribute("aria-invalid", "true");
  await expect(page.getByLabel(/^Tags/)).toHaveValue("Not A Tag!");
  await page.getByLabel(/^Tags/).fill("prod, eu-1");
  await page.getByLabel(/^Expires on/).last().fill(day(5));
  await page.getByRole("button", { name: "Save", exact: true }).first().click();
  await expect(status()).toContainText("Saved.");
  await expect(page.getByText("Sealed, version 1")).toBeVisible();
  await page.getByRole("list", { name: "Tags" }).getByRole("link", { name: "prod" }).click();
  const listed = page.getByRole("table", { name: "Secrets", exact: true }).getByRole("row");
  await expect(listed).toHaveCount(2);
  await expect(listed.last()).toContainText("BARE_KEY");
  await page.getByLabel("Kind", { exact: true }).selectOption({ label: "Database URL" });
  await page.getByRole("button", { name: "Search", exact: true }).click();
  await expect(page.getByText("Nothing matches.")).toBeVisible();
  await page.getByLabel("Tag", { exact: true }).selectOption({ label: "Any tag" });
  await page.getByLabel("Scope", { exact: true }).selectOption({ label: "project/" });
  await page.getByRole("button", { name: "Search", exact: true }).click();
  await expect(listed).toHaveCount(2);
  await expect(listed.last()).toContainText("DATABASE_URL");
});

test("what is due stands first", async () => {
  await page.goto(`${sealport.url}/secrets`);
  const due = page.getByRole("region", { name: "Due" });
  await expect(due.getByRole("listitem")).toHaveCount(1);
  await expect(due.getByText("Expires", { exact: true })).toBeVisible();
  await expect(due).toContainText(/in [56] days/);
  await due.getByRole("link", { name: "BARE_KEY" }).click();
  await expect(page.getByLabel("New value")).toBeVisible();
  await openFolding(page, "Rotation");
  await page.getByLabel(/^Due every/).fill("0");
  await page.getByRole("button", { name: "Save", exact: true }).last().click();
  await expect(page.getByText("Give a number of days from 1 to 3650.").first()).toBeVisible();
  await page.getByLabel(/^Due every/).fill("90");
  await page.getByRole("button", { name: "Save", exact: true }).last().click();
  await expect(status()).toContainText("After 90 days");
  await expect(page.getByText(/^New value due /)).toBeVisible();
  await openFolding(page, "Rotation");
  await expect(page.getByText("A new value is due every 90 days, next")).toBeVisible();
  // For all that is in a folder.
  await page.goto(`${sealport.url}/secrets?owner=${ADMIN.handle}&under=project/shop`);
  await openFolding(page, "Rotation of what is in this folder");
  await page.getByLabel(/^Due every/).fill("30");
  await page.getByLabel(/If Sealport generated the value/).check();
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await expect(status()).toContainText("generated anew");
  await open("project/shop/STRIPE_KEY");
  await openFolding(page, "Rotation");
  await expect(page.getByText("The folder project/shop says so.")).toBeVisible();
});

test("the kind says what is wrong with a value, and never what it is", async () => {
  const secret = value();
  for (const [kind, typed, says] of [
    ["JSON", `{"key": ${secret}}`, "line 1, column"],
    ["Database URL", `db.example.org/${secret}`, "The scheme is missing"],
    ["Certificate", secret, "A certificate is PEM text"],
  ] as const) {
    await page.goto(`${sealport.url}/secrets/new`);
    await page.getByLabel("Path").fill("CHECKED");
    await page.getByLabel("Value").fill(typed);
    await page.getByLabel(/^Kind/).selectOption({ label: kind });
    await page.getByRole("button", { name: "Seal and add" }).click();
    await expect(page.getByText(says)).toBeVisible();
    await expect(page.getByLabel("Value")).toHaveAttribute("aria-invalid", "true");
    expect(await page.content()).not.toContain(secret);
  }
  await addSecret(page, sealport, { path: "PASTED", value: `${value()}\n`, kind: "API key" });
  await expect(page.getByRole("note")).toContainText("It ends with a line break");
  const pem = readFileSync(join(ROOT, "tests/fixtures/certificate.pem"), "utf8");
  await addSecret(page, sealport, { path: "service/web/TLS", value: pem, kind: "Certificate" });
  await expect(page.getByRole("note")).toContainText("2126-11-02");
  await expect(page.getByText("Usable until 2126-11-02")).toBeVisible();
});

test("an administrator decides how many old versions are kept", async () => {
  await page.goto(`${sealport.url}/settings`);
  const kept = page.getByRole("region", { name: "Old versions of secrets" });
  await kept.getByLabel(/^Old versions kept/).fill("-1");
  await kept.getByRole("button", { name: "Save" }).click();
  await expect(page.getByText("Give a number from 0 to 10,000").first()).toBeVisible();
  await kept.getByLabel(/^Old versions kept/).fill("20");
  await kept.getByLabel(/^Days that they are kept/).fill("365");
  await kept.getByRole("button", { name: "Save" }).click();
  await expect(status()).toContainText("Saved.");
  await expect(kept.getByLabel(/^Old versions kept/)).toHaveValue("20");
  await expect(kept.getByLabel(/^Days that they are kept/)).toHaveValue("365");
  // What destroys something is asked about first, with how much, and again for other limits.
  const question = kept.getByRole("alert");
  for (const count of ["1", "0"]) {
    await kept.getByLabel(/^Old versions kept/).fill(count);
    await kept.getByRole("button", { name: "Save" }).click();
    await expect(question).toContainText("This destroys 1 old version of 1 secret for good");
    await expect(kept.getByLabel(/^Old versions kept/)).toHaveValue(count);
  }
  await page.goto(`${sealport.url}/settings`);
  await expect(kept.getByLabel(/^Old versions kept/)).toHaveValue("20");
  await kept.getByLabel(/^Old versions kept/).fill("0");
  await kept.getByRole("button", { name: "Save" }).click();
  await expect(question).toBeVisible();
  await kept.getByRole("button", { name: "Save" }).click();
  await expect(status()).toContainText("Saved.");
  await expect(kept.getByLabel(/^Old versions kept/)).toHaveValue("0");
});
