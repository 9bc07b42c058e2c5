// Each caller brings a key of their own, with and without JavaScript: from the wizard to a call, and to the end of the key.

import { AxeBuilder } from "@axe-core/playwright";
import { expect, type Page, test } from "@playwright/test";

import { callByNode, textOf } from "../support/clients.ts";
import { Searcher } from "../support/leaks.ts";
import { Sealport } from "../support/sealport.ts";
import { addSecret, canary, connect, deploy, type Gateway, inspect, reaches, state, welcome } from "../support/steps.ts";

const BOB = { email: "bob@example.org", password: "bob has another passphrase", handle: "bob" };
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
const NAME = "everything";
const [first, second] = [canary(), canary()];
let sealport: Sealport;
let ada: Page;
let bob: Page;
let gateway: Gateway;

test.describe.configure({ mode: "serial" });
test.setTimeout(600_000);

test.beforeAll(async ({ browser }, testInfo) => {
  sealport = await Sealport.started();
  const javaScriptEnabled = testInfo.project.use.javaScriptEnabled ?? true;
  const newPage = async () => (await browser.newContext({ javaScriptEnabled })).newPage();
  [ada, bob] = [await newPage(), await newPage()];
  await welcome(ada, sealport);
  await sealport.addUser(BOB.email, BOB.password);
});

test.afterEach(async () => {
  const searcher = new Searcher({ first, second });
  for (const page of [ada, bob]) expect(searcher.in(await page.content())).toEqual([]);
});

test.afterAll(async () => {
  expect(new Searcher({ first, second }).in(sealport.said)).toEqual([]);
  await sealport.remove();
});

const here = () => `${sealport.url}/connect/${NAME}`;
const slot = (page: Page) => page.getByRole("region", { name: "EVERY_KEY", exact: true });
const notice = (page: Page) => page.getByRole("status").filter({ hasText: "EVERY_KEY" });
const envOf = async () => JSON.parse(textOf(await callByNode(gateway.url, gateway.token, "get-env"))) as Record<string, string>;

/** What is there is clean for axe, in both themes, on a phone and at a desk, and nothing has to be scrolled sideways. */
async function clean(page: Page, javaScriptEnabled?: boolean): Promise<void> {
  // Axe is a script itself.
  if (javaScriptEnabled === false) return;
  for (const [colorScheme, width] of [["light", 360], ["dark", 1280]] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.setViewportSize({ width, height: 900 });
    // On its way from one theme to the other, a colour is neither's.
    await expect.poll(() => page.evaluate("document.getAnimations().every((one) => one.playState !== 'running')")).toBe(true);
    const { violations } = await new AxeBuilder({ page: page as never }).withTags(TAGS).analyze();
    expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 200)).join(" | ")}`)).toEqual([]);
    expect(await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")).toBe(0);
  }
}

async function openOwn(page: Page): Promise<void> {
  const folding = page.locator("details#own");
  if ((await folding.getAttribute("open")) === null) await folding.locator("summary").first().click();
}

test("the wizard takes a name that each caller brings, and refuses it where it cannot be", async ({ javaScriptEnabled }) => {
  await inspect(ada, sealport, { kind: "npm package", source: "@modelcontextprotocol/server-everything", name: NAME });
  await ada.getByRole("button", { name: "Go on to secrets" }).click();
  await ada.waitForURL(/\/secrets$/);
  await openOwn(ada);
  await ada.getByLabel(/^Name of another variable 1/).fill("PATH");
  await ada.getByRole("button", { name: "Go on to the target" }).click();
  await expect(ada.getByLabel(/^Name of another variable 1/)).toHaveAttribute("aria-invalid", "true");
  await ada.getByLabel(/^Name of another variable 1/).fill("EVERY_KEY");
  await ada.getByLabel(/^Name of plain variable/).first().fill("EVERY_KEY");
  await ada.getByLabel(/^Text of plain variable/).first().fill("hello");
  await ada.getByRole("button", { name: "Go on to the target" }).click();
  await expect(ada.getByText("EVERY_KEY is already given by EVERY_KEY.")).toBeVisible();
  await clean(ada, javaScriptEnabled);
  await ada.getByLabel(/^Name of plain variable/).first().fill("GREETING");
  await ada.getByLabel(/^Text of plain variable/).first().fill("hello");
  await ada.getByRole("button", { name: "Keep, and add another name" }).click();
  await expect(ada.getByLabel(/^Name of another variable 2/)).toBeVisible();
  await ada.getByRole("button", { name: "Go on to the target" }).click();
  await ada.waitForURL(/\/target$/);
  await ada.getByRole("radio", { name: /^Render/ }).check();
  await ada.getByLabel("Name", { exact: true }).fill(NAME);
  await ada.getByRole("button", { name: "Go on to the review" }).click();
  await expect(ada.getByText("runs one service with one environment for everybody")).toBeVisible();
  await ada.getByRole("radio", { name: /^This machine/ }).check();
  await ada.getByRole("button", { name: "Go on to the review" }).click();
  await ada.waitForURL(/\/review$/);
  const review = ada.getByRole("region", { name: "What the server gets" });
  await expect(review).toContainText("EVERY_KEY");
  await expect(review).toContainText("each caller’s own");
  await ada.getByRole("button", { name: "Deploy", exact: true }).click();
  await ada.waitForURL(new RegExp(`/deployments/${NAME}$`));
  await reaches(ada, "Running");
  const bindings = ada.getByRole("region", { name: "Bindings" });
  await expect(bindings.getByRole("row", { name: /EVERY_KEY/ })).toContainText("Each caller’s own");
  await expect(ada.getByRole("region", { name: "Connected people" })).toContainText("Nobody has connected keys yet.");
});

test("who may call it is led to where keys are connected, and others are told nothing", async () => {
  // Nobody is signed in here yet: signing in leads back.
  await bob.goto(here());
  await expect(bob).toHaveURL(/\/sign-in\?next=/);
  await bob.getByLabel("E-mail").fill(BOB.email);
  await bob.getByLabel(/^Password/).fill(BOB.password);
  await bob.getByRole("button", { name: "Sign in" }).click();
  await expect(bob).toHaveURL(here());
  await expect(bob.getByRole("heading", { name: "There is nothing at this address" })).toBeVisible();

  await ada.goto(`${sealport.url}/share/deployment/${NAME}`);
  await ada.getByLabel("With whom").fill(BOB.handle);
  await ada.getByRole("radio", { name: /^use:/ }).check();
  await ada.getByRole("button", { name: "Share", exact: true }).click();
  await expect(ada.getByText("bob has use from now on.")).toBeVisible();

  await bob.goto(`${sealport.url}/deployments`);
  await bob.getByRole("link", { name: /^Connect your keys/ }).click();
  await expect(bob).toHaveURL(here());
  await bob.goto(`${sealport.url}/deployments/${NAME}`);
  await expect(bob.getByRole("region", { name: "Connected people" })).toHaveCount(0);
  await expect(bob.getByRole("link", { name: "Connect your keys" })).toHaveAttribute("href", `/connect/${NAME}`);
  gateway = await connect(bob);
});

test("a call without keys is answered with the address of the page", async ({ javaScriptEnabled }) => {
  const listed = JSON.stringify(await callByNode(gateway.url, gateway.token, "--list"));
  expect(listed).toContain("connect_keys");
  expect(listed).toContain(here());
  await expect(callByNode(gateway.url, gateway.token, "get-env")).rejects.toThrow(`/connect/${NAME}`);

  await bob.goto(here());
  const standing = bob.getByRole("region", { name: "Standing" });
  for (const said of ["ada", "npm:@modelcontextprotocol/server-everything@", "This machine", BOB.email, "0 of 1 keys can be used"]) {
    await expect(standing).toContainText(said);
  }
  await expect(bob.getByText("could make it give your key away")).toBeVisible();
  await expect(slot(bob)).toContainText("Missing");
  await expect(slot(bob)).toContainText(`service/${NAME}/EVERY_KEY`);
  await expect(slot(bob).getByText("Clear")).toHaveCount(0);
  await expect(bob.getByRole("region", { name: "Your instance" })).toContainText("your instance starts at your first call");
  await clean(bob, javaScriptEnabled);
});

test("an empty value is refused at its field, and a value is connected and used", async ({ javaScriptEnabled }) => {
  await bob.goto(here());
  // A browser would not send the form without a value.
  await slot(bob).locator("textarea").evaluate((field) => field.removeAttribute("required"));
  await slot(bob).getByRole("button", { name: /^Connect/ }).click();
  await expect(slot(bob).getByText("Type or paste the value.")).toBeVisible();
  await expect(slot(bob).getByLabel("Value")).toHaveAttribute("aria-invalid", "true");
  await slot(bob).getByLabel("Value").fill(first);
  await slot(bob).getByRole("button", { name: /^Connect/ }).click();
  await expect(notice(bob)).toContainText("EVERY_KEY is sealed and connected.");
  await expect(bob).toHaveURL(here());
  await expect(slot(bob).getByText("Connected", { exact: true })).toBeVisible();
  await expect(bob.getByRole("region", { name: "Standing" })).toContainText("Your calls run in an instance of your own");
  const env = await envOf();
  expect(env.EVERY_KEY).toBe("[sealed]");
  expect(env.GREETING).toBe("hello");
  await bob.goto(here());
  await expect(bob.getByRole("region", { name: "Your instance" })).toContainText("Your own instance answered the handshake.");
  await clean(bob, javaScriptEnabled);
  // The log is its caller's alone; that somebody is connected, the owner sees.
  await ada.goto(`${sealport.url}/deployments/${NAME}`);
  await expect(ada.locator("[data-log]")).not.toContainText("Your own instance");
  const people = ada.getByRole("region", { name: "Connected people" });
  await expect(people.getByRole("listitem").filter({ hasText: "bob" })).toContainText("Connected");
  await ada.goto(here());
  await expect(slot(ada)).toContainText("Missing");
  await expect(ada.getByRole("region", { name: "Your instance" })).toContainText("Nothing yet");
});

test("it is replaced, and its own page leads on", async () => {
  await slot(bob).getByLabel("New value").fill(second);
  await slot(bob).getByRole("button", { name: /^Replace/ }).click();
  await expect(notice(bob)).toContainText("EVERY_KEY is sealed and connected.");
  expect((await envOf()).EVERY_KEY).toBe("[sealed]");
  await slot(bob).getByRole("link", { name: `service/${NAME}/EVERY_KEY` }).click();
  await expect(bob.getByText("Sealed, version 2")).toBeVisible();
  // Switched off, one press brings it back.
  await bob.getByRole("button", { name: "Switch off" }).click();
  await bob.goto(here());
  await expect(slot(bob)).toContainText("Switched off");
  await slot(bob).getByRole("button", { name: /^Switch on/ }).click();
  await bob.goto(here());
  await expect(slot(bob).getByText("Connected", { exact: true })).toBeVisible();
});

test("cleared by its name, it is gone, and calls ask for it again", async () => {
  await bob.goto(here());
  const clear = slot(bob).locator("details");
  await clear.locator("summary").click();
  await clear.getByLabel("Type EVERY_KEY to go on").fill("EVERY");
  await clear.getByRole("button", { name: /^Clear/ }).click();
  await expect(clear.getByText("Type EVERY_KEY to clear it. Nothing was deleted.")).toBeVisible();
  await clear.getByLabel("Type EVERY_KEY to go on").fill("EVERY_KEY");
  await clear.getByRole("button", { name: /^Clear/ }).click();
  await expect(notice(bob)).toContainText("EVERY_KEY is cleared: your value of it is deleted.");
  await expect(slot(bob)).toContainText("Missing");
  await expect(callByNode(gateway.url, gateway.token, "get-env")).rejects.toThrow(`/connect/${NAME}`);
  await bob.goto(`${sealport.url}/secrets/bob/service/${NAME}/EVERY_KEY`);
  await expect(bob.getByRole("heading", { name: "There is nothing at this address" })).toBeVisible();
});

test("what is kept under the path already is connected by one press", async () => {
  await addSecret(bob, sealport, { path: `service/${NAME}/EVERY_KEY`, value: first });
  await bob.goto(here());
  await expect(slot(bob)).toContainText("Kept, not connected");
  await expect(callByNode(gateway.url, gateway.token, "get-env")).rejects.toThrow(`/connect/${NAME}`);
  await slot(bob).getByRole("button", { name: /^Connect what is kept/ }).click();
  await expect(notice(bob)).toContainText("EVERY_KEY is connected. Your next call");
  expect((await envOf()).EVERY_KEY).toBe("[sealed]");
});

test("a deployment that asks for nothing says so", async () => {
  await deploy(ada, sealport, { kind: "npm package", source: "@modelcontextprotocol/server-everything", name: "plain-one" });
  await ada.goto(`${sealport.url}/connect/plain-one`);
  await expect(ada.getByText("There is nothing to connect")).toBeVisible();
  await ada.getByRole("link", { name: "To its page" }).click();
  await expect(state(ada)).toBeVisible();
  await expect(ada.getByRole("link", { name: "Connect your keys" })).toHaveCount(0);
});
