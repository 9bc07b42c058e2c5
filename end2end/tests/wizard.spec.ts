// The wizard keeps what was typed, whichever way one goes, and says what is wrong where it is mended.

import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { AxeBuilder } from "@axe-core/playwright";
import { expect, type Page, test } from "@playwright/test";

import { Sealport } from "../support/sealport.ts";
import { addSecret, bind, canary, inspect, openFolding, type Wanted, welcome } from "../support/steps.ts";

const root = mkdtempSync(join(tmpdir(), "sealport-wizard-"));
const source = join(root, "mine");
const TOKEN = "ghp_0123456789abcdefghijklmnopqrstuvwxyzAB";
/** The address of the draft that becomes the deployment `mine`, without its step. */
let draft = "";
let sealport: Sealport;
let page: Page;

test.describe.configure({ mode: "serial" });

/** A server that declares some variables and names another in its code. */
function writeSource(): void {
  mkdirSync(source);
  const variable = (name: string, isRequired: boolean) => ({ name, isRequired, isSecret: true, description: `The ${name}` });
  const files = {
    "package.json": { name: "mine", version: "1.0.0", bin: { mine: "server.mjs" } },
    "server.json": {
      name: "org.example/mine",
      packages: [
        {
          registryType: "npm",
          identifier: "mine",
          transport: { type: "stdio" },
          environmentVariables: [variable("MINE_KEY", true), variable("FIRST_PEM", true), variable("SECOND_PEM", true), variable("EXTRA_KEY", false), { ...variable("MINE_LEVEL", false), isSecret: false }],
        },
      ],
    },
  };
  for (const [name, content] of Object.entries(files)) writeFileSync(join(source, name), JSON.stringify(content));
  writeFileSync(join(source, "server.mjs"), "#!/usr/bin/env node\nconsole.error(process.env.AWS_SECRET_ACCESS_KEY);\n");
  chmodSync(root, 0o755);
}

const wanted: Wanted = { kind: "Directory of this machine", source, name: "mine" };

test.beforeAll(async ({ browser }, testInfo) => {
  test.setTimeout(300_000);
  writeSource();
  sealport = await Sealport.started({ SEALPORT_DIR_ROOTS: root });
  const context = await browser.newContext({ javaScriptEnabled: testInfo.project.use.javaScriptEnabled ?? true });
  page = await context.newPage();
  await welcome(page, sealport);
  for (const path of ["MINE_KEY", "AWS_SECRET_ACCESS_KEY", "project/shop/OTHER_KEY"]) {
    await addSecret(page, sealport, { path, value: canary() });
  }
  await addSecret(page, sealport, { path: "PIN", value: "1234" });
});

test.afterAll(async () => {
  await page.close();
  await sealport.remove();
  rmSync(root, { recursive: true, force: true });
});

const step = (name: string) => page.getByRole("navigation", { name: "Steps" }).getByRole("button", { name });
const alerts = () => page.getByRole("alert");
const row = (path: string) => page.getByRole("listitem").filter({ has: page.getByLabel(path, { exact: true }) });

async function go(name: string, to: string): Promise<void> {
  await step(name).click();
  await page.waitForURL(new RegExp(`/${to}$`));
}

test("only fields of the chosen kind show", async () => {
  await page.goto(`${sealport.url}/deploy`);
  await page.getByRole("button", { name: "New deployment" }).click();
  const [version, reference] = [page.getByLabel("Version of a package"), page.getByLabel("Branch, tag or commit")];
  for (const [kind, hasVersion, hasReference] of [
    ["npm package", true, false],
    ["PyPI package", true, false],
    ["Git repository over https", false, true],
    ["Container image, for a provider", false, false],
    ["Directory of this machine", false, false],
  ] as const) {
    await page.getByLabel("It is a").selectOption({ label: kind });
    await expect(version).toBeVisible({ visible: hasVersion });
    await expect(reference).toBeVisible({ visible: hasReference });
  }
});

test("what is wrong with a source stands at its field, and a token is not kept there", async () => {
  await page.getByLabel("It is a").selectOption({ label: "Git repository over https" });
  const [package_, version] = [page.getByLabel("Package, repository, image or directory"), page.getByLabel("Version of a package")];
  const [reference, folder] = [page.getByLabel("Branch, tag or commit"), page.getByLabel("Folder in the repository")];
  const look = () => page.getByRole("button", { name: "Look at it" }).click();
  await package_.fill("https://host.example/owner/x");
  await reference.fill(TOKEN);
  await folder.fill("../x");
  await look();
  await expect(reference).toHaveAttribute("aria-invalid", "true");
  await expect(reference).toHaveValue("");
  await expect(folder).toHaveAttribute("aria-invalid", "true");
  await expect(page.getByText("A folder is a path inside the repository")).toBeVisible();
  await expect(package_).not.toHaveAttribute("aria-invalid", "true");
  await page.getByLabel("It is a").selectOption({ label: "npm package" });
  await package_.fill("left-pad");
  await version.fill("^1 || 2");
  await look();
  await expect(version).toHaveAttribute("aria-invalid", "true");
  await expect(page.getByText("A version is a single one")).toBeVisible();
  await package_.fill(TOKEN);
  await version.fill("");
  await look();
  await expect(package_).toHaveAttribute("aria-invalid", "true");
  await expect(page.getByText("That looks like a secret")).toBeVisible();
  expect(await page.content()).not.toContain(TOKEN);
});

test("a secret is ticked where it is declared, not where its name occurs", async () => {
  await inspect(page, sealport, wanted);
  await page.getByRole("button", { name: "Go on to secrets" }).click();
  await expect(page.getByLabel("MINE_KEY", { exact: true })).toBeChecked();
  await expect(row("MINE_KEY")).toContainText("required");
  await expect(page.getByLabel("AWS_SECRET_ACCESS_KEY", { exact: true })).not.toBeChecked();
  await expect(row("AWS_SECRET_ACCESS_KEY")).toContainText("found in its code");
  await expect(row("PIN")).toContainText("too short to mask");
});

test("what was typed stays, whichever step one goes to", async () => {
  await page.getByLabel("project/shop/OTHER_KEY", { exact: true }).check();
  await page.getByLabel("Variable for project/shop/OTHER_KEY").fill("9BAD");
  await page.getByLabel("AWS_SECRET_ACCESS_KEY", { exact: true }).check();
  await page.getByLabel("Name of plain variable 1").fill("LOG_LEVEL");
  await page.getByLabel("Text of plain variable 1").fill("debug");
  await openFolding(page, "Other keys that it can use (1)");
  await page.locator('[id="path-EXTRA_KEY"]').fill("project/shop/EXTRA_KEY");
  await go("1 Source", "source");
  // What is wrong on another step is marked there, and said nowhere else.
  await expect(alerts()).toHaveCount(0);
  await expect(step("2 Secrets")).toContainText("not in order yet");
  await expect(page.getByLabel("Package, repository, image or directory")).toHaveValue(source);
  await go("3 Target", "target");
  await page.getByLabel("Name", { exact: true }).fill("half-typed");
  await go("2 Secrets", "secrets");
  await expect(alerts()).toContainText("Not in order yet.");
  await expect(page.getByLabel("project/shop/OTHER_KEY", { exact: true })).toBeChecked();
  const bad = page.getByLabel("Variable for project/shop/OTHER_KEY");
  await expect(bad).toHaveValue("9BAD");
  await expect(bad).toHaveAttribute("aria-invalid", "true");
  await expect(page.getByLabel("AWS_SECRET_ACCESS_KEY", { exact: true })).toBeChecked();
  await expect(page.getByLabel("Name of plain variable 1")).toHaveValue("LOG_LEVEL");
  await expect(page.getByLabel("Text of plain variable 1")).toHaveValue("debug");
  await openFolding(page, "Other keys that it can use (1)");
  await expect(page.locator('[id="path-EXTRA_KEY"]')).toHaveValue("project/shop/EXTRA_KEY");
  await go("3 Target", "target");
  await expect(page.getByLabel("Name", { exact: true })).toHaveValue("half-typed");
});

test("Enter in a field presses the step's own button", async () => {
  await page.getByLabel("Name", { exact: true }).press("Enter");
  await page.waitForURL(/\/review$/);
});

test("each error of the review leads to where it is mended", async () => {
  await expect(alerts().getByRole("link", { name: "Go to Secrets" })).toBeVisible();
  await page.getByRole("link", { name: "3 Target" }).click();
  await page.getByLabel("Name", { exact: true }).fill("Not a name");
  await go("4 Review", "review");
  await alerts().getByRole("link", { name: "Go to Target" }).click();
  await expect(page.getByLabel("Name", { exact: true })).toHaveValue("Not a name");
  await expect(page.getByLabel("Name", { exact: true })).toHaveAttribute("aria-invalid", "true");
  await page.getByLabel("Name", { exact: true }).fill("mine");
  await go("2 Secrets", "secrets");
  await page.getByLabel("Variable for project/shop/OTHER_KEY").fill("OTHER_KEY");
});

test("two long values are sealed with one press, and more than a form carries is said", async () => {
  // Every character takes three in a form.
  const long = () => canary().padEnd(60 * 1024, "+");
  await page.locator('[id="value-FIRST_PEM"]').fill(long());
  await page.locator('[id="value-SECOND_PEM"]').fill(long());
  await page.getByRole("button", { name: "Go on to the target" }).click();
  await page.waitForURL(/\/target$/);
  await expect(page.getByRole("status")).toContainText("Sealed and ticked: FIRST_PEM, SECOND_PEM.");
  const here = page.url();
  await page.goto(`${sealport.url}/secrets/new`);
  await page.getByLabel("Path").fill("FAR_TOO_LONG");
  await page.getByLabel("Value").fill("+".repeat(2 * 1024 * 1024));
  await page.getByRole("button", { name: "Seal and add" }).click();
  await expect(alerts()).toContainText("That was more than one form can carry");
  await expect(page.getByRole("heading", { name: "Add a secret" })).toBeVisible();
  await page.goto(here);
});

test("what was found in the code is said once more at the end", async () => {
  await go("4 Review", "review");
  await expect(alerts()).toHaveCount(0);
  const review = page.getByRole("region", { name: "What the server gets" });
  await expect(review).toContainText("secret AWS_SECRET_ACCESS_KEY (found in its code)");
  await expect(review).toContainText("LOG_LEVEL");
  // Offered and left empty, it gives nothing.
  await expect(review).not.toContainText("MINE_LEVEL");
});

test("a secret that was switched off meanwhile is said at its row", async () => {
  const review = page.url();
  draft = review.replace(/review$/, "");
  await page.goto(`${sealport.url}/secrets/ada/project/shop/OTHER_KEY`);
  await page.getByRole("button", { name: "Switch off" }).click();
  await expect(page.getByRole("button", { name: "Switch on" })).toBeVisible();
  await openFolding(page, "Compare with what you have");
  await expect(page.getByText("A secret that is switched off is opened for nobody")).toBeVisible();
  await page.goto(review);
  await page.getByRole("button", { name: "Deploy", exact: true }).click();
  await alerts().getByRole("link", { name: "Go to Secrets" }).click();
  await expect(row("project/shop/OTHER_KEY")).toContainText("switched off");
  await expect(row("project/shop/OTHER_KEY")).toContainText("project/shop/OTHER_KEY is switched off. Switch it on, or choose another.");
  await page.getByLabel("project/shop/OTHER_KEY", { exact: true }).uncheck();
  await go("4 Review", "review");
  await page.getByRole("button", { name: "Deploy", exact: true }).click();
  await page.waitForURL(/\/deployments\/mine$/);
});

test("a draft that was deployed says so at each step, and seals nothing", async () => {
  for (const at of ["source", "secrets", "target", "review"]) {
    await page.goto(draft + at);
    await expect(page.getByText("This draft was deployed as mine; it does not change any more.")).toBeVisible();
    await expect(page.getByRole("main").getByRole("link", { name: "mine", exact: true })).toHaveAttribute("href", "/deployments/mine");
    if (at === "target") await expect(page.getByLabel("Name", { exact: true })).toBeDisabled();
  }
  const id = /deploy\/([0-9a-f-]+)\//.exec(draft)?.[1] ?? "";
  const answer = await page.request.post(`${sealport.url}/_fn/draft_secrets`, {
    headers: { origin: sealport.url, accept: "text/html" },
    form: { id, "add_path[LATE_KEY]": "LATE_KEY", "add_value[LATE_KEY]": canary(), then: "stay" },
  });
  expect(await answer.text()).toContain("This draft was deployed already; it does not change any more.");
  await page.goto(`${sealport.url}/secrets/ada/LATE_KEY`);
  await expect(page.getByRole("heading", { name: "There is nothing at this address" })).toBeVisible();
});

test("a name that is taken is said at its field, and only there", async () => {
  await inspect(page, sealport, wanted);
  await bind(page, wanted);
  await page.getByRole("button", { name: "Deploy", exact: true }).click();
  await expect(alerts()).toContainText("The name mine is taken.");
  await page.getByRole("link", { name: "1 Source" }).click();
  await page.waitForURL(/\/source$/);
  await expect(alerts()).toHaveCount(0);
  await go("3 Target", "target");
  await expect(page.getByText("The name mine is taken. Choose another.")).toBeVisible();
  await expect(page.getByLabel("Name", { exact: true })).toHaveAttribute("aria-invalid", "true");
});

test("plain text that looks like a secret keeps one on the step, and what is kept plain can be another", async () => {
  await go("2 Secrets", "secrets");
  const rowOf = async (name: string) => {
    const names = page.getByLabel(/^Name of plain variable/);
    const now = await names.evaluateAll((inputs) => inputs.map((input) => (input as HTMLInputElement).value));
    return now.includes(name) ? now.indexOf(name) : now.indexOf("");
  };
  const text = async () => page.getByLabel(/^Text of plain variable/).nth(await rowOf("SAMPLE"));
  await page.getByLabel(/^Name of plain variable/).nth(await rowOf("SAMPLE")).fill("SAMPLE");
  await (await text()).fill(TOKEN);
  await step("3 Target").click();
  await expect(page.getByText("SAMPLE looks like a secret, so its text was not kept")).toBeVisible();
  await expect(page).toHaveURL(/\/secrets$/);
  for (const sample of [TOKEN, `${TOKEN}C`]) {
    await (await text()).fill(sample);
    await page.getByLabel("Keep it plain: it is no secret").check();
    await go("3 Target", "target");
    await go("2 Secrets", "secrets");
    await expect(await text()).toHaveValue(sample);
  }
  await page.goto(`${sealport.url}/deploy`);
  await expect(page.getByRole("main")).toContainText(/At Review, changed .*, goes in 7 days/);
});

/** What assistive technology meets. axe is a script of the page, so without scripts it cannot look. */
async function clean(javaScriptEnabled: boolean | undefined): Promise<void> {
  if (javaScriptEnabled === false) return;
  expect((await new AxeBuilder({ page: page as never }).analyze()).violations).toEqual([]);
}

test("an image is not looked at, and runs at a provider alone", async ({ javaScriptEnabled }) => {
  await inspect(page, sealport, { kind: "Container image, for a provider", source: "ghcr.io/owner/server:1.2", name: "imaged" });
  await expect(page.getByRole("region", { name: "What it is" })).toContainText("image:ghcr.io/owner/server:1.2");
  await expect(page.getByText("An image is not looked at: it must listen on PORT")).toBeVisible();
  await page.getByRole("button", { name: "Go on to secrets" }).click();
  await page.waitForURL(/\/secrets$/);
  await page.getByLabel("AWS_SECRET_ACCESS_KEY", { exact: true }).check();
  await page.getByRole("button", { name: "Go on to the target" }).click();
  await page.waitForURL(/\/target$/);
  await expect(page.getByLabel("Name", { exact: true })).toHaveValue("server");
  await expect(page.getByRole("complementary", { name: "Summary" })).toContainText("not chosen yet");
  await page.getByRole("radio", { name: /^This machine/ }).check();
  await page.getByRole("button", { name: "Go on to the review" }).click();
  await expect(page.getByText("An image runs at a provider.")).toBeVisible();
  await clean(javaScriptEnabled);
});

test("only fields of the chosen target show, and what is wrong stands at them", async ({ javaScriptEnabled }) => {
  const [key, region] = [page.getByLabel("Path of your key for Render"), page.getByLabel(/^Region/)];
  await expect(key).toBeHidden();
  await page.getByRole("radio", { name: /^Render/ }).check();
  await expect(key).toHaveValue("meta/render/api_key");
  await region.fill("frankfurt");
  await page.getByRole("textbox", { name: /^Health check/ }).fill("ghp_0123456789abcdefghijklmnopqrstuvwxyzAB");
  await page.getByRole("button", { name: "Go on to the review" }).click();
  await expect(page.getByText("There is no secret meta/render/api_key here")).toBeVisible();
  await expect(key).toHaveAttribute("aria-invalid", "true");
  await expect(region).toHaveValue("frankfurt");
  await expect(page.getByText("That looks like a secret, and options can be read")).toBeVisible();
  expect(await page.content()).not.toContain("ghp_0123456789");
  await clean(javaScriptEnabled);
  // What may be the key itself is not kept.
  await key.fill("3f0c2a1e-58f1-4c6e-9f0e-1d2c3b4a5968");
  await page.getByRole("textbox", { name: /^Health check/ }).fill("/healthz");
  await page.getByRole("button", { name: "Go on to the review" }).click();
  await expect(page.getByText("There is no such secret.")).toBeVisible();
  expect(await page.content()).not.toContain("3f0c2a1e");
});

test("the review says what a provider gets, and is not asked before the key is there", async () => {
  await go("4 Review", "review");
  await expect(page.getByRole("region", { name: "What happens at Render" })).toContainText("Render is asked once the steps before are in order.");
  const review = page.getByRole("region", { name: "What the server gets" });
  for (const name of ["AWS_SECRET_ACCESS_KEY", "NODE_ENV", "PORT", "SEALPORT_GATEWAY_SECRET"]) await expect(review).toContainText(name);
  await expect(review).toContainText("Render shows these variables with their values");
  await page.getByRole("button", { name: "Deploy", exact: true }).click();
  await expect(alerts()).toContainText("There is no secret meta/render/api_key here");
  await alerts().getByRole("link", { name: "Go to Target" }).first().click();
  await expect(page.getByRole("radio", { name: /^Render/ })).toBeChecked();
  await expect(page.getByLabel(/^Region/)).toHaveValue("frankfurt");
});

test("the list of deployments says where each runs and what ran last", async ({ javaScriptEnabled }) => {
  await page.goto(`${sealport.url}/deployments`);
  const table = page.getByRole("table", { name: "Deployments" });
  await expect(table.getByRole("rowheader", { name: "This machine" })).toBeVisible();
  await expect(table.getByRole("row").filter({ hasText: "mine" })).toContainText(/1 (waiting|under way|live|failed).* by ada/);
  for (const width of [360, 1280]) {
    await page.setViewportSize({ width, height: 800 });
    expect(await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")).toBe(0);
    await clean(javaScriptEnabled);
  }
  await page.goto(`${sealport.url}/deployments/mine`);
  await expect(page.getByRole("region", { name: "State", exact: true })).toContainText("Runs at");
});

test("a value too short to be masked is warned of", async () => {
  await page.goto(`${sealport.url}/secrets/ada/PIN`);
  await expect(page.getByText("The value is too short to be masked")).toBeVisible();
  await page.goto(`${sealport.url}/secrets/ada/MINE_KEY`);
  await expect(page.getByText("The value is too short to be masked")).toHaveCount(0);
});

test("the lines of the log that show are copied", async ({ javaScriptEnabled }) => {
  test.skip(javaScriptEnabled === false, "copying needs a script");
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.goto(`${sealport.url}/deployments/mine`);
  const log = page.getByRole("region", { name: "Log", exact: true });
  await expect(log.getByRole("listitem").first()).toBeVisible({ timeout: 120_000 });
  const first = (await log.getByRole("listitem").first().innerText()).trim();
  await log.getByRole("button", { name: "Copy" }).click();
  await expect(log.getByRole("button", { name: "Copied" })).toBeVisible();
  const copied = () => page.evaluate("navigator.clipboard.readText()") as Promise<string>;
  expect((await copied()).split("\n")[0]?.trim()).toBe(first);
  await log.getByRole("searchbox").fill("nothing says this");
  await expect(log.getByRole("button", { name: "Copy", exact: true })).toBeVisible();
  await log.getByRole("button", { name: "Copy", exact: true }).click();
  await expect.poll(copied).toBe("");
});

test("a deployment is changed by a draft that has all of it", async () => {
  await page.goto(`${sealport.url}/deployments/mine`);
  await page.getByRole("button", { name: "Begin a draft from this" }).click();
  await expect(page.getByRole("button", { name: "Go on to secrets" })).toBeVisible({ timeout: 120_000 });
  await page.getByRole("button", { name: "Go on to secrets" }).click();
  await expect(page.getByLabel("MINE_KEY", { exact: true })).toBeChecked();
  await expect(page.getByLabel("Name of plain variable 1")).toHaveValue("LOG_LEVEL");
  await page.getByLabel("Text of plain variable 1").fill("trace");
  await page.getByRole("button", { name: "Go on to the target" }).click();
  await page.waitForURL(/\/target$/);
  await page.getByRole("button", { name: "Go on to the review" }).click();
  await page.waitForURL(/\/review$/);
  await expect(page.getByText("Deploy changes mine with a new release")).toBeVisible();
  await page.getByRole("button", { name: "Deploy", exact: true }).click();
  await page.waitForURL(/\/deployments\/mine$/);
  await expect(page.getByRole("heading", { name: "Release 2" })).toBeVisible();
  await expect(page.getByRole("region", { name: "Bindings" })).toContainText("plain text: trace");
});
