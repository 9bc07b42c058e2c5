// People come, get back in, and leave: with and without scripts.

import { AxeBuilder } from "@axe-core/playwright";
import { type Browser, expect, type Page, test } from "@playwright/test";

import { Sealport } from "../support/sealport.ts";
import { addSecret, ADMIN, signIn, welcome } from "../support/steps.ts";

const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

let sealport: Sealport;

test.describe.configure({ mode: "serial" });

test.beforeAll(async ({ browser }) => {
  test.setTimeout(300_000);
  sealport = await Sealport.started();
  const page = await browser.newPage();
  await welcome(page, sealport);
  await page.close();
});

test.afterAll(() => sealport.remove());

/** axe is a script itself: where pages may run none, there is nothing to ask it. */
async function clean(page: Page, scripts = true): Promise<void> {
  if (!scripts) return;
  // Two copies of the same types: the one of axe knows an older Playwright.
  const { violations } = await new AxeBuilder({ page: page as never }).withTags(TAGS).analyze();
  expect(violations.map(({ id, nodes }) => `${page.url()}: ${id}: ${nodes.map((node) => node.html).join(" | ")}`)).toEqual([]);
  const overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");
  expect(Number(overflow), `${page.url()} is wider than the window`).toBeLessThanOrEqual(0);
}

async function shownLink(page: Page, kind: "invitation" | "reset"): Promise<string> {
  const shown = page.getByRole("status").filter({ hasText: "Copy the link now. It cannot be shown again." });
  await expect(shown).toContainText("Sealport sends no e-mail");
  const link = (await shown.locator("code").innerText()).trim();
  expect(link).toMatch(new RegExp(`^${sealport.url}/${kind}/[\\w-]{43}$`));
  await page.reload();
  await expect(page.getByText(link)).toHaveCount(0);
  return link;
}

async function elsewhere(browser: Browser, javaScriptEnabled: boolean): Promise<Page> {
  const context = await browser.newContext({ javaScriptEnabled, viewport: { width: 390, height: 844 } });
  return context.newPage();
}

for (const scripts of [true, false]) {
  const handle = scripts ? "grace" : "mary";
  const person = { email: `${handle}@example.org`, password: "a passphrase of one's own" };
  const newer = { ...person, password: "another passphrase of one's own" };

  test(`somebody is invited, resets their password and ends, ${scripts ? "with" : "without"} scripts`, async ({ browser }) => {
    test.setTimeout(300_000);
    const ada = await (await browser.newContext({ javaScriptEnabled: scripts })).newPage();
    await signIn(ada, sealport);
    await ada.goto(`${sealport.url}/people`);
    await clean(ada, scripts);
    await ada.getByLabel("E-mail").fill(person.email);
    await ada.getByRole("button", { name: "Make an invitation" }).click();
    const invitation = await shownLink(ada, "invitation");
    await expect(ada.getByRole("region", { name: "Open invitations" })).toContainText(person.email);
    // Whoever came by a link has signed in by it.
    await expect(ada.getByRole("region", { name: "Everyone" })).not.toContainText("not signed in yet");
    await clean(ada, scripts);

    const theirs = await elsewhere(browser, scripts);
    await theirs.goto(invitation);
    await expect(theirs.getByLabel("E-mail")).toHaveValue(person.email);
    await clean(theirs, scripts);
    await theirs.getByLabel("Password").fill(person.password);
    await theirs.getByRole("button", { name: "Make the account and sign in" }).click();
    await theirs.waitForURL(/\/secrets$/);
    await addSecret(theirs, sealport, { path: `KEY_OF_${handle.toUpperCase()}`, value: "a value of some length" });
    const late = await elsewhere(browser, scripts);
    await late.goto(invitation);
    await expect(late.getByRole("main")).toContainText("This link opens nothing");
    await clean(late, scripts);

    await ada.goto(`${sealport.url}/people`);
    const row = ada.getByRole("region", { name: "Everyone" }).getByRole("listitem").filter({ hasText: person.email });
    await row.locator("summary").click();
    await row.getByRole("button", { name: "Make a reset link" }).click();
    const reset = await shownLink(ada, "reset");
    await late.goto(reset);
    await clean(late, scripts);
    await late.getByLabel("Password").fill(newer.password);
    await late.getByRole("button", { name: "Set the password and sign in" }).click();
    await late.waitForURL(/\/secrets$/);
    // The session from before has ended.
    await theirs.goto(`${sealport.url}/secrets`);
    await expect(theirs).toHaveURL(/\/sign-in/);
    await signIn(theirs, sealport, newer);

    // They see both, and end the other.
    await theirs.goto(`${sealport.url}/settings`);
    const sessions = theirs.getByRole("region", { name: "Where you are signed in" });
    await expect(sessions.getByRole("listitem")).toHaveCount(2);
    await expect(sessions).toContainText("This one");
    await clean(theirs, scripts);
    await sessions.getByRole("button", { name: "End all others" }).click();
    await expect(sessions.getByRole("listitem")).toHaveCount(1);
    await late.goto(`${sealport.url}/secrets`);
    await expect(late).toHaveURL(/\/sign-in/);

    await row.locator("summary").click();
    await row.getByRole("link", { name: "End this account" }).click();
    await expect(ada.getByRole("main")).toContainText("Secrets: 1. Deployments: 0.");
    await clean(ada, scripts);
    await ada.getByLabel("Hand everything over to").fill("nobody-of-that-name");
    await ada.getByLabel(`Type ${handle} to confirm`).fill(handle);
    await ada.getByRole("button", { name: "End this account" }).click();
    await expect(ada.getByText("There is no other user or team with this handle.")).toBeVisible();
    await ada.getByLabel("Hand everything over to").fill(ADMIN.handle);
    await ada.getByRole("button", { name: "End this account" }).click();
    await expect(ada.getByRole("status")).toContainText(`The account ${handle} has ended.`);
    await expect(row).toContainText("Ended");
    await ada.goto(`${sealport.url}/secrets`);
    await expect(ada.getByRole("main")).toContainText(`KEY_OF_${handle.toUpperCase()}`);
    await theirs.goto(`${sealport.url}/secrets`);
    await expect(theirs).toHaveURL(/\/sign-in/);
    await theirs.getByLabel("E-mail").fill(newer.email);
    await theirs.getByLabel("Password").fill(newer.password);
    await theirs.getByRole("button", { name: "Sign in" }).click();
    await expect(theirs.getByRole("alert")).toContainText("do not belong together");

    // What the log says has no link in it.
    for (const link of [invitation, reset]) {
      expect(sealport.said).not.toContain(link.split("/").at(-1) ?? link);
    }
    for (const page of [ada, theirs, late]) await page.context().close();
  });
}

test("the page that asks for the password again, and the one that moves a secret, are clean", async ({ browser }) => {
  const page = await elsewhere(browser, true);
  await signIn(page, sealport);
  await page.goto(`${sealport.url}/confirm?next=%2Fpeople`);
  await clean(page);
  await page.getByLabel("Password", { exact: true }).fill("not the passphrase");
  await page.getByRole("button", { name: "Go on" }).click();
  await expect(page.getByText("That is not your password.")).toBeVisible();
  await page.getByLabel("Password", { exact: true }).fill(ADMIN.password);
  await page.getByRole("button", { name: "Go on" }).click();
  await expect(page).toHaveURL(/\/people$/);
  await expect(page.getByRole("note")).toContainText("press the button once more");

  await addSecret(page, sealport, { path: "TO_MOVE", value: "a value of some length" });
  await page.getByRole("link", { name: "Move to another owner" }).click();
  await expect(page.getByRole("main")).toContainText("There is nobody to move it to");
  await clean(page);
  await page.context().close();
});
