// What a person does, in the words of the pages.

import { randomBytes } from "node:crypto";

import { type BrowserContext, expect, type Page, test } from "@playwright/test";

import { Sealport } from "./sealport.ts";

export const ADMIN = { email: "ada@example.org", password: "a long enough passphrase", handle: "ada" };

/** Inspecting, fetching and installing go over the network. */
const SLOW = { timeout: 240_000 };

/** A value that stands nowhere else. */
export function canary(): string {
  return `glpat-${randomBytes(24).toString("hex")}`;
}

/** The first administrator comes in by the one-time link. */
export async function welcome(page: Page, sealport: Sealport, who = ADMIN): Promise<void> {
  await page.goto(sealport.welcome);
  await page.getByLabel("E-mail").fill(who.email);
  await page.getByLabel(/^Password/).fill(who.password);
  await page.getByRole("button", { name: /make the account/i }).click();
  await page.waitForURL(/\/secrets$/);
}

export async function signIn(page: Page, sealport: Sealport, who: { email: string; password: string } = ADMIN): Promise<void> {
  await page.goto(`${sealport.url}/sign-in`);
  await page.getByLabel("E-mail").fill(who.email);
  await page.getByLabel(/^Password/).fill(who.password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(/\/secrets$/);
}

export type NewSecret = { path: string; value: string; description?: string; kind?: string };

/** Adds a secret from its own page; ends on the page of the secret. */
export async function addSecret(page: Page, sealport: Sealport, secret: NewSecret): Promise<void> {
  await page.goto(`${sealport.url}/secrets/new`);
  await page.getByLabel("Path").fill(secret.path);
  await page.getByLabel("Value").fill(secret.value);
  if (secret.description) await page.getByLabel(/^Description/).fill(secret.description);
  if (secret.kind) await page.getByLabel(/^Kind/).selectOption({ label: secret.kind });
  await page.getByRole("button", { name: "Seal and add" }).click();
  await expect(page.getByRole("status").filter({ hasText: "Sealed. It cannot be shown here again." })).toBeVisible();
}

/** Replaces the value on the page of the secret. */
export async function replace(page: Page, by: string): Promise<void> {
  await openFolding(page, "Replace the value");
  await page.getByLabel("New value").fill(by);
  await page.getByRole("button", { name: "Seal and replace" }).click();
  await expect(page.getByRole("status")).toContainText("Sealed.");
}

/** Compares on the page of the secret. What differs is no success. */
export async function compare(page: Page, typed: string, said: "The same:" | "Different:"): Promise<void> {
  await openFolding(page, "Compare with what you have");
  await page.getByLabel("Value to compare").fill(typed);
  await page.getByRole("button", { name: "Compare", exact: true }).click();
  const [one, other] = said === "The same:" ? (["status", "note"] as const) : (["note", "status"] as const);
  await expect(page.getByRole(one)).toContainText(said);
  await expect(page.getByRole(other)).toHaveCount(0);
}

/** What the tests of one file share. */
export type Shared = { sealport: Sealport; context: BrowserContext; page: Page };

/**
 * Begins a file of tests that go on from each other: a Sealport of their own and its first administrator. `begin` is given both;
 * what is returned makes values that no page and no line of the log may ever hold.
 */
export function neverShown(begin: (shared: Shared) => void): (made?: string) => string {
  const values: string[] = [];
  let shared: Shared;
  test.describe.configure({ mode: "serial" });
  test.beforeAll(async ({ browser }, testInfo) => {
    test.setTimeout(300_000);
    const sealport = await Sealport.started();
    const context = await browser.newContext({ javaScriptEnabled: testInfo.project.use.javaScriptEnabled ?? true });
    const page = await context.newPage();
    begin((shared = { sealport, context, page }));
    await welcome(page, sealport);
  });
  test.afterEach(async () => {
    const content = await shared.page.content();
    for (const value of values) expect(content).not.toContain(value);
  });
  test.afterAll(async () => {
    for (const value of values) expect(shared.sealport.said).not.toContain(value);
    await shared.page.close();
    await shared.sealport.remove();
  });
  return (made = canary()) => {
    values.push(made);
    return made;
  };
}

export type Wanted = {
  /** As the select says it. */
  kind: "npm package" | "PyPI package" | "Git repository over https" | "Container image, for a provider" | "Directory of this machine";
  source: string;
  version?: string;
  reference?: string;
  folder?: string;
  command?: string;
  /** As the select says it. */
  transport?: "HTTP";
  /** The path of the secret to fetch with. */
  fetchKey?: string;
  /** Variable → path of a secret that is ticked for it. */
  secrets?: Record<string, string>;
  plain?: Record<string, string>;
  /** Variables that each caller brings. */
  brought?: readonly string[];
  /** Where it runs, as its choice is headed, and what the target is told, by the fields' labels; else what is chosen already. */
  target?: { title: "Render" | "Railway"; options?: Record<string, string> };
  name: string;
};

/** Begins a draft and has its source looked at; ends on the source step with what was found. */
export async function inspect(page: Page, sealport: Sealport, wanted: Wanted): Promise<void> {
  await page.goto(`${sealport.url}/deploy`);
  await page.getByRole("button", { name: "New deployment" }).click();
  await page.waitForURL(/\/deploy\/[0-9a-f-]+\/source$/);
  await page.getByLabel("It is a").selectOption({ label: wanted.kind });
  await page.getByLabel("Package, repository, image or directory").fill(wanted.source);
  if (wanted.version) await page.getByLabel("Version of a package").fill(wanted.version);
  if (wanted.reference) await page.getByLabel("Branch, tag or commit").fill(wanted.reference);
  if (wanted.folder) await page.getByLabel("Folder in the repository").fill(wanted.folder);
  if (wanted.command || wanted.transport || wanted.fetchKey) {
    await page.getByText("Private source, other command").click();
    if (wanted.command) await page.getByLabel("Command").fill(wanted.command);
    if (wanted.transport) await page.getByLabel("It speaks over").selectOption({ label: wanted.transport });
    if (wanted.fetchKey) await page.getByLabel("Fetch key").selectOption({ label: wanted.fetchKey });
  }
  await page.getByRole("button", { name: "Look at it" }).click();
  // The page asks again by itself until there is an end.
  const ended = page.getByRole("button", { name: "Go on to secrets" }).or(page.getByText("The source could not be looked at"));
  await expect(ended).toBeVisible(SLOW);
  await expect(page.getByRole("button", { name: "Go on to secrets" })).toBeVisible({ timeout: 1_000 });
}

/** From the found source to the review. */
export async function bind(page: Page, wanted: Wanted): Promise<void> {
  await page.getByRole("button", { name: "Go on to secrets" }).click();
  await page.waitForURL(/\/secrets$/);
  for (const [env, path] of Object.entries(wanted.secrets ?? {})) {
    await page.getByLabel(path, { exact: true }).check();
    await page.getByLabel(`Variable for ${path}`, { exact: true }).fill(env);
  }
  for (const [env, text] of Object.entries(wanted.plain ?? {})) await setPlain(page, env, text);
  if (wanted.brought) await bring(page, wanted.brought);
  await page.getByRole("button", { name: "Go on to the target" }).click();
  await page.waitForURL(/\/target$/);
  if (wanted.target) {
    await page.getByRole("radio", { name: new RegExp(`^${wanted.target.title}`) }).check();
    for (const [label, said] of Object.entries(wanted.target.options ?? {})) {
      await page.getByRole("textbox", { name: new RegExp(`^${label}`) }).fill(said);
    }
  }
  await page.getByLabel("Name", { exact: true }).fill(wanted.name);
  await page.getByRole("button", { name: "Go on to the review" }).click();
  await page.waitForURL(/\/review$/);
}

/** In the row that has the name already, else in the first empty one. */
async function setPlain(page: Page, env: string, text: string): Promise<void> {
  const names = page.getByLabel(/^Name of plain variable/);
  const now = await names.evaluateAll((inputs) => inputs.map((input) => (input as HTMLInputElement).value));
  const row = now.includes(env) ? now.indexOf(env) : now.indexOf("");
  await names.nth(row).fill(env);
  await page.getByLabel(/^Text of plain variable/).nth(row).fill(text);
}

/** Each caller brings them: ticked where the source asks for them, else typed. */
async function bring(page: Page, names: readonly string[]): Promise<void> {
  const folding = page.locator("details#own");
  if ((await folding.getAttribute("open")) === null) await folding.locator("summary").first().click();
  for (const name of names) {
    const asked = page.getByLabel(`Each caller brings ${name}`, { exact: true });
    if ((await asked.count()) > 0) await asked.check();
    else await page.getByLabel(/^Name of another variable 1/).fill(name);
  }
}

/** Goes through the whole wizard; ends on the deployment's page. */
export async function deploy(page: Page, sealport: Sealport, wanted: Wanted): Promise<void> {
  await inspect(page, sealport, wanted);
  await bind(page, wanted);
  await page.getByRole("button", { name: "Deploy", exact: true }).click();
  await page.waitForURL(new RegExp(`/deployments/${wanted.name}$`));
}

export function state(page: Page) {
  return page.getByRole("region", { name: "State", exact: true });
}

/** Waits on the deployment's page until it says this state. The page follows by itself, with and without scripts. */
export async function reaches(page: Page, word: string): Promise<void> {
  const here = page.url().replace(/[?#].*$/, "");
  const deadline = Date.now() + SLOW.timeout;
  // A page that has come to rest does not look again by itself without scripts.
  while (Date.now() < deadline) {
    const found = await state(page).getByText(word, { exact: true }).waitFor({ timeout: 10_000 }).then(() => true, () => false);
    if (found) return;
    await page.goto(here).catch(() => undefined);
  }
  await expect(state(page)).toContainText(word, { timeout: 1 });
}

/** Presses a button of the deployment's page. */
export async function act(page: Page, label: "Stop" | "Start" | "Redeploy"): Promise<void> {
  await state(page).getByRole("button", { name: label, exact: true }).click();
  await page.waitForLoadState();
}

export type Gateway = { url: string; token: string };

/** Makes a gateway token on the deployment's page. */
export async function connect(page: Page, what = "a test's client"): Promise<Gateway> {
  await page.getByLabel("What the token is for").fill(what);
  await page.getByRole("button", { name: "Make a token" }).click();
  await expect(page.getByText("Copy the token now. It cannot be shown again.")).toBeVisible();
  const token = (await page.locator("#token").innerText()).trim();
  expect(token).toMatch(/^sp_[0-9A-Za-z]+$/);
  const url = (await page.locator("#connect").getByText(/\/s\/[a-z0-9-]+\/mcp$/).first().innerText()).trim();
  return { url, token };
}

export async function destroy(page: Page, name: string): Promise<void> {
  await askToDestroy(page, name);
  await page.waitForURL(/\/deployments$/);
}

/** What is at a provider goes first there; until then one stays on the page. */
export async function askToDestroy(page: Page, name: string): Promise<void> {
  await openFolding(page, "Destroy");
  await page.getByLabel(`Type ${name} to go on`).fill(name);
  await page.getByRole("button", { name: "Destroy", exact: true }).click();
}

/** Opens a part of a page that is folded away. */
export async function openFolding(page: Page, title: string): Promise<void> {
  const folding = page.locator("details").filter({ has: page.getByRole("heading", { name: title, exact: true }) });
  if ((await folding.getAttribute("open")) === null) await folding.locator("summary").first().click();
}
