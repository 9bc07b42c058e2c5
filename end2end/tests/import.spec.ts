// Importing a file of variables, with and without JavaScript: pasted and uploaded, decided line by line, and never shown.

import { expect, type Page, test } from "@playwright/test";

import { Searcher } from "../support/leaks.ts";
import { Answers } from "../support/recorder.ts";
import { Sealport } from "../support/sealport.ts";
import { addSecret, ADMIN, canary, openFolding, welcome } from "../support/steps.ts";

let sealport: Sealport;
let page: Page;
let answers: Answers;
/** Every value that was typed, pasted or uploaded, by what it was for. */
const values: Record<string, string> = {};

test.describe.configure({ mode: "serial" });

test.beforeAll(async ({ browser }, testInfo) => {
  test.setTimeout(300_000);
  answers = await Answers.open();
  sealport = await Sealport.started(answers.settings);
  answers.leadTo(sealport.port);
  const context = await browser.newContext({ javaScriptEnabled: testInfo.project.use.javaScriptEnabled ?? true });
  page = await context.newPage();
  await welcome(page, sealport);
});

test.afterAll(async () => {
  await page.close();
  answers.close();
  await sealport.remove();
});

function value(what: string): string {
  values[what] = canary();
  return values[what];
}

/** What a line of the preview would do. */
function line(text: string) {
  // A text matches in any case, an expression as it stands.
  return page.getByRole("table", { name: "What each line would do" }).getByRole("row").filter({ hasText: new RegExp(text) });
}

async function lookAt(file: string | { name: string; bytes: Buffer }, under = ""): Promise<void> {
  await page.goto(`${sealport.url}/secrets`);
  await page.getByRole("link", { name: /^Import/ }).first().click();
  await expect(page.getByRole("heading", { name: "Import", exact: true })).toBeVisible();
  await page.getByLabel(/^Under/).fill(under);
  if (typeof file === "string") {
    await page.getByLabel(/^Paste the variables/).fill(file);
  } else {
    await page.getByLabel(/^Or choose a file/).setInputFiles({ name: file.name, mimeType: "text/plain", buffer: file.bytes });
  }
  await page.getByRole("button", { name: "Look at it" }).click();
}

/** Whether the stored value is this one. */
async function holds(path: string, text: string): Promise<void> {
  await page.goto(`${sealport.url}/secrets/${ADMIN.handle}/${path}`);
  await openFolding(page, "Compare with what you have");
  await page.getByLabel("Value to compare").fill(text);
  await page.getByRole("button", { name: "Compare", exact: true }).click();
  await expect(page.getByRole("status")).toContainText("The same:");
}

test("pasted variables are seen line by line, and what is new is imported", async () => {
  const [plain, quoted, many] = [value("plain"), value("quoted"), value("many")];
  const pem = `-----BEGIN PRIVATE KEY-----\n${many}==\n-----END PRIVATE KEY-----\n`;
  const pasted = [
    "# the shop's keys",
    `export STRIPE_KEY=${plain}`,
    `DATABASE_URL='postgres://shop:${quoted}@db/shop?a=b#c' # the primary`,
    `TLS_KEY="${pem}"`,
    "GREETING=\"${NAME}, hello\"",
    `just-a-value-${value("noName")}`,
    `NOT_CLOSED="${value("notClosed")}`,
    "",
    "EMPTY=",
  ].join("\n");
  await lookAt(pasted, "project/shop");
  await expect(page.getByRole("main")).toContainText("4 new, 3 that cannot be imported");
  await expect(line("STRIPE_KEY")).toContainText("be added");
  await expect(line("TLS_KEY")).toContainText("The value has 3 lines.");
  await expect(line("GREETING")).toContainText("nothing is filled in");
  await expect(line("NOT_CLOSED")).toContainText("is not closed");
  await expect(line("There is no =")).toContainText("No name");
  await expect(line("EMPTY")).toContainText("It has no value.");
  await page.getByLabel("Kind of what is new").selectOption({ label: "API key" });
  await line("GREETING").getByRole("checkbox").uncheck();
  await page.getByRole("button", { name: "Import what is ticked" }).click();
  await expect(page.getByRole("status")).toContainText("3 added, 0 replaced. 4 lines were left out.");
  const rows = page.getByRole("table", { name: "Secrets" }).getByRole("row");
  await expect(page).toHaveURL(/under=project\/shop$/);
  await expect(rows.filter({ hasText: "project/shop/" })).toHaveCount(3);
  await expect(rows.filter({ hasText: "STRIPE_KEY" })).toContainText("API key");
  await holds("project/shop/STRIPE_KEY", plain);
  await holds("project/shop/DATABASE_URL", `postgres://shop:${quoted}@db/shop?a=b#c`);
  await holds("project/shop/TLS_KEY", pem);
});

test("an uploaded file meets what is stored: each conflict is the person's to decide", async () => {
  const stored = value("stored");
  for (const path of ["SAME", "REPLACED", "LEFT", "cased"]) await addSecret(page, sealport, { path, value: path === "SAME" ? stored : value(path) });
  const [replaced, second] = [value("replacedBy"), value("twiceSecond")];
  const file = [
    `SAME=${stored}`,
    `REPLACED=${replaced}`,
    `LEFT=${value("leftBy")}`,
    `CASED=${value("casedBy")}`,
    `TWICE=${value("twiceFirst")}`,
    `TWICE=${second}`,
    "",
  ].join("\r\n");
  await lookAt({ name: ".env", bytes: Buffer.from(`\ufeff${file}`) });
  await expect(line("SAME")).toContainText("change nothing: the same value is stored");
  await expect(line("SAME").getByRole("checkbox")).toHaveCount(0);
  await expect(line("REPLACED")).toContainText("replace another value");
  await expect(line("CASED")).toContainText("differs only in upper and lower case");
  // Nothing that would overwrite, and neither of two, is ticked by itself.
  for (const box of await page.getByRole("checkbox").all()) await expect(box).not.toBeChecked();
  await page.getByRole("button", { name: "Import what is ticked" }).click();
  await expect(page.getByRole("alert")).toContainText("Tick at least one line.");

  const twice = line("TWICE").getByRole("checkbox");
  await expect(line("TWICE").first()).toContainText("The same path is in line 6 too");
  await line("REPLACED").getByRole("checkbox").check();
  for (const box of await twice.all()) await box.check();
  await page.getByRole("button", { name: "Import what is ticked" }).click();
  await expect(page.getByRole("alert")).toContainText("Lines 5 and 6 have the same path. Tick one of them.");
  // What was ticked stays.
  await expect(line("REPLACED").getByRole("checkbox")).toBeChecked();
  await twice.first().uncheck();
  await page.getByRole("button", { name: "Import what is ticked" }).click();
  await expect(page.getByRole("status")).toContainText("1 added, 1 replaced. 4 lines were left out.");
  await holds("REPLACED", replaced);
  await expect(page.getByText("Sealed, version 2")).toBeVisible();
  await holds("TWICE", second);
  await holds("LEFT", values.LEFT ?? "");
  await page.goto(`${sealport.url}/activity?path=REPLACED`);
  await expect(page.getByRole("main")).toContainText("imported");
});

test("what is replaced meanwhile is not overwritten, and nothing of the file goes in", async () => {
  await lookAt(`BEFORE=${value("before")}\nLEFT=${value("leftAgain")}`);
  await page.getByRole("link", { name: "Tick all that differ" }).click();
  await expect(line("LEFT").getByRole("checkbox")).toBeChecked();
  const other = await page.context().newPage();
  await other.goto(`${sealport.url}/secrets/${ADMIN.handle}/LEFT`);
  await openFolding(other, "Replace the value");
  await other.getByLabel("New value").fill(value("meanwhile"));
  await other.getByRole("button", { name: "Seal and replace" }).click();
  await expect(other.getByText("Sealed, version 2")).toBeVisible();
  await other.close();
  await page.getByRole("button", { name: "Import what is ticked" }).click();
  await expect(page.getByRole("alert")).toContainText("LEFT (line 2) was added, replaced, renamed or deleted by someone meanwhile. Nothing was imported.");
  await page.getByRole("button", { name: "Start over" }).click();
  await expect(page.getByRole("status")).toContainText("Nothing was imported, and the values are gone.");
  await expect(page.getByLabel(/^Paste the variables/)).toHaveValue("");
  await page.goto(`${sealport.url}/secrets/${ADMIN.handle}/BEFORE`);
  await expect(page.getByRole("heading", { name: "There is nothing at this address" })).toBeVisible();
});

test("JSON is read too, and what is no file says why at its field", async () => {
  const json = JSON.stringify({ FROM_JSON: value("json"), PORT_NUMBER: 8080, NESTED: { inner: value("nested") } }, null, 2);
  await lookAt({ name: "secrets.json", bytes: Buffer.from(json) }, "service/json/");
  await expect(line("FROM_JSON")).toContainText("be added");
  await expect(line("PORT_NUMBER")).toContainText("stored as its text");
  await expect(line("NESTED")).toContainText("It holds a list or an object.");
  await page.getByRole("button", { name: "Import what is ticked" }).click();
  await expect(page.getByRole("status")).toContainText("2 added, 0 replaced. One line was left out.");
  await holds("service/json/FROM_JSON", values.json ?? "");
  await holds("service/json/PORT_NUMBER", "8080");

  const broken = value("broken");
  await lookAt(`{"A": "${broken}"`);
  await expect(page.getByText("This is not JSON: something is wrong at line 1")).toBeVisible();
  await expect(page.getByLabel(/^Paste the variables/)).toHaveAttribute("aria-invalid", "true");
  await expect(page.getByLabel(/^Paste the variables/)).toHaveValue("");
  await lookAt({ name: ".env", bytes: Buffer.from(`A=${broken}`, "utf16le") });
  await expect(page.getByText("This is not UTF-8 text.")).toBeVisible();
  await lookAt(`A=${broken}`, "nowhere/x");
  await expect(page.getByText("A path with folders starts with meta/, project/ or service/")).toBeVisible();
  await expect(page.getByLabel(/^Under/)).toHaveValue("nowhere/x");
  await lookAt("");
  await expect(page.getByText("Paste the variables, or choose a file.")).toBeVisible();
  await lookAt({ name: ".env", bytes: Buffer.from(`A=${broken}\n#${"x".repeat(1_050_000)}`) });
  await expect(page.getByText("A file has at most 1 MiB.")).toBeVisible();
  await lookAt({ name: ".env", bytes: Buffer.from(`A=${broken}\n#${"x".repeat(1_300_000)}`) });
  await expect(page.getByText("That was more than one form can carry")).toBeVisible();
});

test("no answer and no line of the log held a piece of a value", async () => {
  const answered = await answers.all();
  const searcher = new Searcher(values);
  expect(Object.keys(values).length).toBeGreaterThan(15);
  const leaks = answered.flatMap(({ what, text }) => searcher.in(text).map((found) => `${what}: ${found}`));
  expect(leaks).toEqual([]);
  expect(answered.some(({ text }) => text.includes("What each line would do"))).toBe(true);
  expect(searcher.in(sealport.said)).toEqual([]);
});
