// What looks like SQL or script is text in every other field that there is, and in every file in which a source says something of itself.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { expect, type Page, test } from "@playwright/test";

import { freePort, Sealport } from "../support/sealport.ts";
import { addSecret, canary, deploy, inspect, openFolding, reaches, welcome, type Wanted } from "../support/steps.ts";

const PAYLOADS = [`<script>document.title='owned'</script>`, `"><img src=x onerror="document.title='owned'">`, `'; drop table secrets; --`];
const [SCRIPT, IMAGE, SQL] = PAYLOADS as [string, string, string];
const KEPT = "project/shop/KEPT_KEY";

let sealport: Sealport;
let page: Page;
const wrong: string[] = [];
/** Addresses of drafts that stand at the step of their name, and of the share page of a secret. */
const at = { secrets: "", target: "", source: "", share: "" };

test.describe.configure({ mode: "serial" });
test.setTimeout(600_000);

/** A server that asks for nothing but a handshake, beside what a source says of itself. */
function write(name: string, files: Record<string, string>): string {
  const dir = join(sealport.dir, "sources", name);
  mkdirSync(dir, { recursive: true });
  for (const [file, text] of Object.entries(files)) writeFileSync(join(dir, file), text);
  return dir;
}

const SERVER = `
import { createInterface } from "node:readline";
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line);
  const result = method === "initialize" ? { protocolVersion: params.protocolVersion, capabilities: {}, serverInfo: { name: "x", version: "1" } } : {};
  if (id !== undefined) console.log(JSON.stringify({ jsonrpc: "2.0", id, result }));
}
`;

function watch(one: Page): void {
  one.on("dialog", (dialog) => {
    wrong.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  one.context().on("response", (response) => {
    if (response.status() >= 500) wrong.push(`${response.status()} of ${response.url()}`);
  });
}

test.beforeAll(async ({ browser }) => {
  sealport = new Sealport();
  const source = write("plain", { "package.json": `{"name": "plain", "version": "1.0.0", "type": "module", "bin": "server.mjs"}`, "server.mjs": SERVER });
  await sealport.start({ SEALPORT_DIR_ROOTS: join(sealport.dir, "sources"), SEALPORT_RENDER_API: `http://127.0.0.1:${await freePort()}`, SEALPORT_SOURCE_HOSTS: "127.0.0.1" });
  page = await browser.newPage();
  watch(page);
  await welcome(page, sealport);
  await addSecret(page, sealport, { path: KEPT, value: canary() });
  at.share = (await page.getByRole("link", { name: "Share", exact: true }).getAttribute("href")) ?? "";
  await page.goto(`${sealport.url}/people`);
  await page.getByLabel("New team").fill("ops");
  await page.getByRole("button", { name: "Make a team" }).click();
  await expect(page.getByRole("heading", { name: "ops", exact: true })).toBeVisible();
  await sealport.addUser("bob@example.org", "bob has another passphrase");
  const wanted: Wanted = { kind: "Directory of this machine", source, brought: ["OWN_KEY"], name: "brings" };
  await deploy(page, sealport, wanted);
  await reaches(page, "Running");
  await inspect(page, sealport, { kind: "Container image, for a provider", source: "ghcr.io/acme/shop:1", name: "drafted" });
  await page.getByRole("button", { name: "Go on to secrets" }).click();
  await page.waitForURL(/\/secrets$/);
  at.secrets = new URL(page.url()).pathname;
  [at.target, at.source] = [at.secrets.replace(/secrets$/, "target"), at.secrets.replace(/secrets$/, "source")];
});

test.afterAll(async () => {
  await page?.close();
  await sealport?.remove();
});

type Field = {
  on: string | (() => string);
  label: string | RegExp;
  press: string | RegExp;
  /** What else is filled in. */
  others?: Record<string, string>;
  prepare?: (page: Page) => Promise<unknown>;
  /** What comes to the field, of a payload. */
  typed?: (payload: string) => string;
  /** Else it is shown again: it is refused at its field, which stays empty, or nobody sees it again. */
  ends?: "refused" | "unseen";
};

const choose = (level: string) => (page: Page) => page.getByRole("radio", { name: new RegExp(`^${level}:`) }).check();
const open = (title: string) => (page: Page) => openFolding(page, title);
const render = (page: Page) => page.getByRole("radio", { name: /^Render/ }).check();

const FIELDS: Field[] = [
  { on: "/secrets/new", label: /^Tags/, press: "Seal and add", others: { Path: "TAGGED", Value: "a value of some length" } },
  { on: "/secrets/new", label: /^Expires on/, press: "Seal and add", others: { Path: "EXPIRES", Value: "a value of some length" }, ends: "refused" },
  { on: `/secrets/ada/${KEPT}`, label: /^Tags/, press: "Save", prepare: open("Edit details") },
  { on: `/secrets/ada/${KEPT}`, label: `Type ${KEPT} to confirm`, press: "Delete this secret", prepare: open("Delete"), ends: "unseen" },
  { on: "/secrets/import", label: /^Under/, press: "Look at it", others: { "Paste the variables": "A_KEY=x" } },
  { on: "/secrets/import", label: /^Paste the variables/, press: "Look at it", typed: (payload) => `IMPORTED=${payload}\n${payload}=x\n${payload}`, prepare: startOver, ends: "unseen" },
  { on: "/people", label: "E-mail", press: "Make an invitation" },
  { on: "/people", label: "New team", press: "Make a team" },
  { on: "/people", label: "Search people", press: "Search" },
  { on: "/teams/ops", label: "Add a member", press: "Add" },
  { on: "/people/bob/end", label: "Type bob to confirm", press: "End this account", ends: "unseen" },
  { on: () => at.share, label: "With whom", press: "Share", prepare: choose("use") },
  { on: () => at.share, label: /^Only in these deployments/, press: "Share", prepare: choose("use"), others: { "With whom": "bob" } },
  { on: "/tokens", label: "What it is for", press: "Make the token", prepare: open("Make a token of the API") },
  { on: "/tokens", label: /^Only paths under/, press: "Make the token", prepare: open("Make a token of the API"), others: { "What it is for": "CI" } },
  { on: "/connect/brings", label: /^(Value|New value)$/, press: /^(Connect|Replace)/, ends: "unseen" },
  { on: "/settings/render", label: "Path of another secret", press: "Check", ends: "unseen" },
  { on: "/activity", label: "Path", press: "Filter" },
  { on: "/activity", label: "Who", press: "Filter" },
  { on: "/activity", label: "Deployment", press: "Filter" },
  { on: "/activity", label: "From", press: "Filter", ends: "refused" },
  { on: () => at.secrets, label: "Name of plain variable 1", press: "Go on to the target", others: { "Text of plain variable 1": "x" }, ends: "unseen" },
  { on: () => at.secrets, label: "Text of plain variable 1", press: "Go on to the target", others: { "Name of plain variable 1": "LOG_LEVEL" }, ends: "unseen" },
  { on: () => at.secrets, label: `Variable for ${KEPT}`, press: "Go on to the target", prepare: (page) => page.getByLabel(KEPT, { exact: true }).check(), ends: "refused" },
  { on: () => at.target, label: /^Path of your key for Render/, press: "Go on to the review", prepare: render, ends: "refused" },
  ...["Region", "Plan", "Health check"].map((option) => ({ on: () => at.target, label: new RegExp(`^${option}`), press: "Go on to the review", prepare: render })),
  {
    on: () => at.source,
    label: /^Version of a package/,
    press: /^Look (at it|again)$/,
    prepare: (page) => page.getByLabel("It is a").selectOption({ label: "npm package" }),
    others: { "Package, repository, image or directory": "@modelcontextprotocol/server-everything" },
  },
];

/** Where a file waits since the last payload, its form does not show. */
async function startOver(page: Page): Promise<void> {
  const button = page.getByRole("button", { name: "Start over" });
  if (await button.isVisible()) await button.click();
}

/** Types and sends it past what a browser would hold back. */
async function send(one: Page, field: Field, payload: string): Promise<void> {
  await one.goto(sealport.url + (typeof field.on === "string" ? field.on : field.on()));
  await field.prepare?.(one);
  for (const [label, text] of Object.entries(field.others ?? {})) await one.getByLabel(label).and(one.locator("input, textarea")).first().fill(text);
  const input = one.getByLabel(field.label, { exact: true }).and(one.locator("input, textarea")).filter({ visible: true }).last();
  await input.evaluate((element) => {
    const { form } = element as HTMLInputElement;
    if (form) form.noValidate = true;
    element.removeAttribute("maxlength");
    if (element.tagName === "INPUT") (element as HTMLInputElement).type = "text";
  });
  const typed = field.typed?.(payload) ?? payload;
  await input.fill(typed);
  const form = one.locator("form").filter({ has: input });
  await form.getByRole("button", { name: field.press, exact: typeof field.press === "string" }).first().click();
  await one.waitForLoadState();
  if (field.ends === "refused") await expect(input).toHaveAttribute("aria-invalid", "true");
  if (!field.ends) await expect.poll(() => shows(one, typed), `${field.label} on ${one.url()} shows ${typed}`).toBe(true);
}

/** As a text of the page or as what stands in a field. */
async function shows(one: Page, text: string): Promise<boolean> {
  return one.locator("body").evaluate((body, text) => {
    const fields = [...body.querySelectorAll("input, textarea")].map((field) => (field as HTMLInputElement).value);
    return (body as HTMLElement).innerText.includes(text) || fields.some((value) => value === text);
  }, text);
}

async function unharmed(one: Page): Promise<void> {
  await expect(one.getByRole("main")).toBeVisible();
  expect(await one.title()).not.toContain("owned");
  expect(await one.locator("main script, img[src=x]").count()).toBe(0);
  expect(wrong).toEqual([]);
}

for (const field of FIELDS) {
  test(`${typeof field.on === "string" ? field.on : "a step or a share"}: ${field.label}`, async () => {
    for (const payload of PAYLOADS) {
      await send(page, field, payload);
      await unharmed(page);
    }
    // Nothing was dropped meanwhile.
    await page.goto(`${sealport.url}/secrets`);
    await expect(page.getByRole("main")).toContainText("KEPT_KEY");
  });
}

test("the names of signing in", async ({ browser }) => {
  const stranger = await (await browser.newContext()).newPage();
  watch(stranger);
  for (const payload of PAYLOADS) {
    await send(stranger, { on: "/sign-in", label: "E-mail", press: "Sign in", others: { Password: payload } }, payload);
    await unharmed(stranger);
  }
  await stranger.context().close();
});

const json = JSON.stringify;
const variable = (name: string) => ({ name, isRequired: true, isSecret: false, description: `</p>${SCRIPT}`, default: IMAGE });
const MANIFESTS: { said: string; files: Record<string, string>; shows: string[] }[] = [
  {
    said: "server.json",
    files: {
      "package.json": json({ name: "said", version: "1.0.0", type: "module", bin: "server.mjs" }),
      "server.mjs": SERVER,
      "server.json": json({
        name: "org.example/said",
        title: IMAGE,
        description: `${SCRIPT}${SQL}`,
        packages: [{ registryType: "npm", identifier: "said", transport: { type: "stdio" }, environmentVariables: [variable("SAID_KEY")], packageArguments: [{ type: "positional", value: SCRIPT }] }],
      }),
    },
    shows: [SCRIPT],
  },
  {
    said: "pyproject.toml",
    files: {
      "pyproject.toml": `[project]\nname = "said"\nversion = "1.0.0"\ndescription = ${json(`${SCRIPT}${SQL}`)}\n[project.scripts]\nsaid = "said:main"\n`,
      "said.py": "def main():\n    pass\n",
    },
    shows: [SCRIPT],
  },
  {
    said: "Procfile",
    files: {
      "package.json": json({ name: "said", version: "1.0.0", type: "module", description: SQL }),
      "server.mjs": SERVER,
      Procfile: `web: node server.mjs ${json("--title=" + SCRIPT)}\n`,
    },
    shows: [],
  },
];

for (const { said, files, shows: texts } of MANIFESTS) {
  test(`said by a source in ${said}`, async () => {
    const source = write(`said-${said}`, files);
    const wanted: Wanted = { kind: "Directory of this machine", source, name: "said" };
    await inspect(page, sealport, wanted);
    await expect(page.getByRole("main")).toContainText(said);
    for (const text of texts) await expect(page.getByRole("main")).toContainText(text);
    await unharmed(page);
    await page.getByRole("button", { name: "Go on to secrets" }).click();
    await page.waitForURL(/\/secrets$/);
    await unharmed(page);
    await page.getByRole("button", { name: "Go on to the target" }).click();
    await page.waitForURL(/\/(target|secrets)$/);
    await unharmed(page);
  });
}
