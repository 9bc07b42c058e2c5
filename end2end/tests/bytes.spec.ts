// How much a browser has to fetch, and how long a long list takes.

import { type Browser, expect, type Page, test } from "@playwright/test";

import { Sealport } from "../support/sealport.ts";
import { signIn, welcome } from "../support/steps.ts";

/** The aim for a first visit, all in all and compressed. */
const FIRST_VISIT_MAX_BYTES = 100_000;
const SECRETS = 1_000;
/** What a page of secrets may have of HTML, compressed, however many there are. */
const LIST_MAX_BYTES = 40_000;

let sealport: Sealport;

test.beforeAll(async () => {
  test.setTimeout(300_000);
  sealport = await Sealport.started();
});

test.afterAll(() => sealport.remove());

type Fetched = { path: string; kind: string; bytes: number };

/** What a visit with an empty cache fetches, in bytes on the wire with their headers. */
async function visit(browser: Browser, path: string, cookies: Parameters<ReturnType<Page["context"]>["addCookies"]>[0] = []): Promise<{ fetched: Fetched[]; readyMs: number }> {
  const context = await browser.newContext();
  await context.addCookies(cookies);
  const page = await context.newPage();
  const session = await context.newCDPSession(page);
  await session.send("Network.enable");
  const begun = new Map<string, { path: string; kind: string }>();
  const fetched: Fetched[] = [];
  session.on("Network.responseReceived", ({ requestId, response, type }) => {
    begun.set(requestId, { path: new URL(response.url).pathname, kind: response.mimeType || type });
  });
  session.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
    const what = begun.get(requestId);
    if (what) fetched.push({ ...what, bytes: encodedDataLength });
  });
  const started = performance.now();
  await page.goto(sealport.url + path, { waitUntil: "domcontentloaded" });
  const readyMs = performance.now() - started;
  await page.waitForLoadState("networkidle");
  await context.close();
  return { fetched, readyMs };
}

function total(fetched: Fetched[]): number {
  return fetched.reduce((sum, { bytes }) => sum + bytes, 0);
}

function print(title: string, fetched: Fetched[]): void {
  console.log(`${title}: ${total(fetched)} bytes`);
  for (const { path, kind, bytes } of fetched) console.log(`  ${String(bytes).padStart(8)}  ${kind}  ${path}`);
}

test("a first visit, and a list of 1,000 secrets", async ({ browser, page }) => {
  test.setTimeout(600_000);
  const first = await visit(browser, "/sign-in");
  print("First visit", first.fetched);
  expect(first.fetched.some(({ kind }) => kind === "text/css")).toBe(true);
  expect(total(first.fetched)).toBeLessThan(FIRST_VISIT_MAX_BYTES);

  await welcome(page, sealport);
  const cookies = await page.context().cookies();
  const inside = await visit(browser, "/secrets", cookies);
  print("First visit, signed in", inside.fetched);
  expect(inside.fetched.some(({ kind }) => kind === "application/wasm")).toBe(true);
  expect(total(inside.fetched)).toBeLessThan(FIRST_VISIT_MAX_BYTES);

  for (let i = 0; i < SECRETS; i++) {
    const answer = await page.request.post(`${sealport.url}/_fn/secret_add`, {
      form: { path: `project/shop-${i % 40}/KEY_NUMBER_${i}`, value: `the value of number ${i}`, description: `What number ${i} is for` },
      headers: { origin: sealport.url, accept: "text/html" },
      maxRedirects: 0,
    });
    expect(answer.status()).toBe(302);
  }
  // Folders are links where there are many; a list has an end.
  for (const [path, what] of [
    ["/secrets", "The tree"],
    ["/secrets?sort=path", "The list"],
    ["/secrets?owner=ada&under=project/shop-7", "One folder of 25"],
  ] as const) {
    const shown = await visit(browser, path, cookies);
    const html = shown.fetched.find(({ kind }) => kind === "text/html");
    console.log(`${what} of ${SECRETS} secrets: ${html?.bytes} bytes of HTML, usable after ${Math.round(shown.readyMs)} ms (a debug build)`);
    expect(html?.bytes).toBeLessThan(LIST_MAX_BYTES);
  }
  await page.goto(`${sealport.url}/secrets`);
  await expect(page.getByRole("list", { name: "Folders" }).getByRole("link", { name: /^shop-/ })).toHaveCount(40);
  await page.goto(`${sealport.url}/secrets?sort=path`);
  await expect(page.getByRole("table", { name: "Secrets" }).getByRole("row")).toHaveCount(501);
  await expect(page.getByText("The first 500 secrets.")).toBeVisible();
});

test("the form of a secret is sent while the wasm has not arrived, and may never", async ({ browser }) => {
  const context = await browser.newContext();
  const page = await context.newPage();
  let asked = 0;
  // It is neither answered nor refused.
  await page.route(/\.wasm$/, () => void asked++);
  await signIn(page, sealport);
  await page.goto(`${sealport.url}/secrets/new`, { waitUntil: "domcontentloaded" });
  await expect.poll(() => asked).toBeGreaterThan(0);
  await page.getByLabel("Path").fill("BEFORE_WASM");
  await page.getByLabel("Value").fill("a value of some length");
  await page.getByRole("button", { name: "Seal and add" }).click({ noWaitAfter: true });
  await expect(page.getByRole("status")).toContainText("Sealed.");
  await expect(page).toHaveURL(/\/secrets\/ada\/BEFORE_WASM/);
  await context.close();
});
