// Two people share, with and without JavaScript: a secret, a folder, a team; and take it back.

import { expect, type Page, test } from "@playwright/test";

import { Sealport } from "../support/sealport.ts";
import { addSecret, ADMIN, canary, openFolding, signIn, welcome } from "../support/steps.ts";

const BOB = { email: "bob@example.org", password: "bob has another passphrase", handle: "bob" };
let sealport: Sealport;
let ada: Page;
let bob: Page;

test.describe.configure({ mode: "serial" });

test.beforeAll(async ({ browser }, testInfo) => {
  test.setTimeout(300_000);
  sealport = await Sealport.started();
  const javaScriptEnabled = testInfo.project.use.javaScriptEnabled ?? true;
  const newPage = async () => (await browser.newContext({ javaScriptEnabled })).newPage();
  [ada, bob] = [await newPage(), await newPage()];
  await welcome(ada, sealport);
  await sealport.addUser(BOB.email, BOB.password);
  await signIn(bob, sealport, BOB);
  await addSecret(ada, sealport, { path: "project/shop/STRIPE_KEY", value: canary() });
  await addSecret(ada, sealport, { path: "project/shop/MAIL_KEY", value: canary() });
});

test.afterAll(() => sealport.remove());

const stripe = () => `${sealport.url}/secrets/${ADMIN.handle}/project/shop/STRIPE_KEY`;
const notice = (page: Page) => page.getByRole("status").first();
const reachers = (page: Page) => page.getByRole("region", { name: "Who can reach this" }).getByRole("listitem");

/** From the page of a secret or deployment, or on a share page already. */
async function share(page: Page, withWhom: string, level: string, only = ""): Promise<void> {
  await page.getByLabel("With whom").fill(withWhom);
  await page.getByRole("radio", { name: new RegExp(`^${level}:`) }).check();
  if (only) await page.getByLabel("Only in these deployments").fill(only);
  await page.getByRole("button", { name: "Share", exact: true }).click();
}

test("what is not shared is not there", async () => {
  await bob.goto(stripe());
  await expect(bob.getByRole("heading", { name: "There is nothing at this address" })).toBeVisible();
  await bob.goto(`${sealport.url}/secrets`);
  await expect(bob.getByText("STRIPE_KEY")).toHaveCount(0);
});

test("a secret is shared for use, and the page says what that trusts its holder with", async () => {
  await ada.goto(stripe());
  await ada.getByRole("link", { name: "Share", exact: true }).click();
  await expect(ada.getByText("What you trust them with when you give use.")).toBeVisible();
  await share(ada, "nobody@example.org", "use");
  await expect(ada.getByText("Nobody here has this e-mail address.")).toBeVisible();
  await expect(ada.getByLabel("With whom")).toHaveValue("nobody@example.org");
  await share(ada, BOB.email, "use", "weather news");
  await expect(notice(ada)).toContainText("has use from now on");
  await expect(reachers(ada).filter({ hasText: "bob" })).toContainText("only in weather, news");

  await bob.goto(`${sealport.url}/secrets`);
  await bob.getByRole("link", { name: "STRIPE_KEY" }).first().click();
  await expect(bob.getByText("It belongs to ada. You have use: bind it in a deployment.")).toBeVisible();
  for (const title of ["Replace the value", "Compare with what you have", "Edit details", "Delete"]) {
    await expect(bob.getByRole("heading", { name: title })).toHaveCount(0);
  }
  await expect(bob.getByRole("link", { name: "Share", exact: true })).toHaveCount(0);
});

test("a folder is shared to write, and another's secret gets a new value", async () => {
  await ada.goto(stripe());
  await ada.goto(`${sealport.url}/share/folder/${ADMIN.handle}/project/shop`);
  await share(ada, BOB.handle, "write");
  await expect(reachers(ada).filter({ hasText: "bob" })).toContainText("write");
  await bob.goto(`${sealport.url}/secrets/${ADMIN.handle}/project/shop/MAIL_KEY`);
  await openFolding(bob, "Replace the value");
  await bob.getByLabel("New value").fill(canary());
  await bob.getByRole("button", { name: "Seal and replace" }).click();
  await expect(notice(bob)).toContainText("Version 2.");
  await expect(bob).toHaveURL(new RegExp(`/secrets/${ADMIN.handle}/project/shop/MAIL_KEY`));
  await expect(bob.getByRole("heading", { name: "Delete" })).toHaveCount(0);
});

test("a rename says who loses before it is done", async () => {
  await ada.goto(`${sealport.url}/secrets/${ADMIN.handle}/project/shop/MAIL_KEY`);
  await openFolding(ada, "Edit details");
  await ada.getByLabel("Path", { exact: true }).fill("project/bank/MAIL_KEY");
  await ada.getByRole("button", { name: "Save" }).click();
  await expect(ada.getByText("bob loses write").first()).toBeVisible();
  await expect(ada.getByLabel("Path", { exact: true })).toHaveValue("project/bank/MAIL_KEY");
  await ada.getByRole("button", { name: "Save" }).click();
  await expect(notice(ada)).toContainText("Saved.");
  await bob.goto(`${sealport.url}/secrets`);
  await expect(bob.getByRole("link", { name: "STRIPE_KEY" }).first()).toBeVisible();
  await expect(bob.getByText("MAIL_KEY")).toHaveCount(0);
});

test("what can this person do, and given back", async () => {
  await ada.goto(stripe());
  await ada.getByRole("link", { name: "Share", exact: true }).click();
  await reachers(ada).getByRole("link", { name: "bob" }).first().click();
  await expect(ada.getByRole("region", { name: "Shared with them" }).getByRole("listitem")).toHaveCount(2);
  await bob.goto(`${sealport.url}/people/${BOB.handle}`);
  const mine = bob.getByRole("region", { name: "Shared with you" }).getByRole("listitem");
  await expect(mine).toHaveCount(2);
  await mine.filter({ hasText: "project/shop/STRIPE_KEY" }).getByRole("button", { name: /Give back/ }).click();
  await expect(notice(bob)).toContainText("Taken back.");
  await expect(mine).toHaveCount(1);
});

test("taken back, it is gone at once, and all of it is on record", async () => {
  await ada.goto(`${sealport.url}/share/folder/${ADMIN.handle}/project/shop`);
  await reachers(ada).filter({ hasText: "bob" }).getByRole("button", { name: /Take back/ }).click();
  await expect(notice(ada)).toContainText("Taken back.");
  await expect(reachers(ada).filter({ hasText: "bob" })).toHaveCount(0);
  await bob.goto(stripe());
  await expect(bob.getByRole("heading", { name: "There is nothing at this address" })).toBeVisible();
  await ada.goto(`${sealport.url}/activity?person=ada`);
  await expect(ada.getByRole("main")).toContainText("ada shared project/shop/STRIPE_KEY with bob, use");
  await expect(ada.getByRole("main")).toContainText("ada took back project/shop/ from bob, write");
});

test("a team owns a secret, and its members reach it by their level", async () => {
  await ada.goto(`${sealport.url}/people`);
  await ada.getByLabel("New team").fill("bob");
  await ada.getByRole("button", { name: "Make a team" }).click();
  await expect(ada.getByText("The handle bob is taken").first()).toBeVisible();
  await ada.getByLabel("New team").fill("ops");
  await ada.getByRole("button", { name: "Make a team" }).click();
  await expect(ada.getByRole("heading", { name: "ops", exact: true })).toBeVisible();
  await ada.getByLabel("Add a member").fill(BOB.email);
  await ada.getByLabel("Level", { exact: true }).selectOption("read");
  await ada.getByRole("button", { name: "Add", exact: true }).click();
  await expect(notice(ada)).toContainText("bob has read on what the team owns.");

  await ada.goto(`${sealport.url}/secrets/new`);
  await ada.getByLabel("Path").fill("TEAM_KEY");
  await ada.getByLabel("Whose it is").selectOption("ops");
  await ada.getByLabel("Value").fill(canary());
  await ada.getByRole("button", { name: "Seal and add" }).click();
  await expect(ada).toHaveURL(`${sealport.url}/secrets/ops/TEAM_KEY`);

  await bob.goto(`${sealport.url}/people`);
  await bob.getByRole("link", { name: "ops" }).click();
  await bob.getByRole("link", { name: "TEAM_KEY" }).click();
  await expect(bob.getByText("It belongs to ops. You have read")).toBeVisible();
  await expect(bob.getByRole("heading", { name: "Compare with what you have" })).toBeVisible();
  await expect(bob.getByRole("heading", { name: "Replace the value" })).toHaveCount(0);

  // The last admin stays; who wants to leaves.
  await ada.goto(`${sealport.url}/teams/ops`);
  await ada.getByRole("button", { name: "Leave", exact: true }).click();
  await expect(ada.getByRole("alert")).toContainText("A team keeps one admin at least.");
  await bob.goto(`${sealport.url}/teams/ops`);
  await bob.getByRole("button", { name: "Leave", exact: true }).click();
  await expect(notice(bob)).toContainText("You have left ops.");
  await bob.goto(`${sealport.url}/secrets/ops/TEAM_KEY`);
  await expect(bob.getByRole("heading", { name: "There is nothing at this address" })).toBeVisible();
});
