// The way in and out, and what a browser's request must pass.

import { type APIRequestContext, expect, test } from "@playwright/test";

import { Sealport } from "../support/sealport.ts";
import { addSecret, ADMIN, signIn, welcome } from "../support/steps.ts";

const BOB = { email: "bob@example.org", password: "bob has another passphrase" };
let sealport: Sealport;

test.describe.configure({ mode: "serial" });

test.beforeAll(async ({ browser }) => {
  test.setTimeout(300_000);
  sealport = await Sealport.started();
  const page = await browser.newPage();
  await welcome(page, sealport);
  await addSecret(page, sealport, { path: "KEPT", value: "a value of some length" });
  await page.close();
  await sealport.addUser(BOB.email, BOB.password);
});

test.afterAll(() => sealport.remove());

/** A form's POST as a page of ours sends it; redirects are not followed. */
function post(request: APIRequestContext, to: string, form: Record<string, string>, headers: Record<string, string> = {}) {
  return request.post(`${sealport.url}${to}`, { form, headers: { origin: sealport.url, ...headers }, maxRedirects: 0 });
}

test("the one-time link works once, and a wrong one not at all", async ({ page }) => {
  for (const link of [sealport.welcome, `${sealport.url}/welcome/wrong`]) {
    await page.goto(link);
    const email = page.getByLabel("E-mail");
    if (await email.isVisible()) {
      await email.fill("eve@example.org");
      await page.getByLabel(/^Password/).fill("eve wants an account too");
      await page.getByRole("button", { name: /make the account/i }).click();
    }
    await expect(page.getByRole("main")).toContainText(/link|nothing at this address/i);
    await page.goto(`${sealport.url}/secrets`);
    await expect(page).toHaveURL(/\/sign-in/);
  }
});

test("a wrong password and an unknown name get the same sentence", async ({ page }) => {
  const said: string[] = [];
  for (const [email, password] of [
    [BOB.email, "not the passphrase"],
    ["nobody@example.org", "not the passphrase"],
  ] as const) {
    await page.goto(`${sealport.url}/sign-in`);
    await page.getByLabel("E-mail").fill(email);
    await page.getByLabel("Password").fill(password);
    await page.getByRole("button", { name: "Sign in" }).click();
    await expect(page.getByRole("alert")).toBeVisible();
    said.push(await page.getByRole("alert").innerText());
    await expect(page.getByLabel("E-mail")).toHaveValue(email);
    await expect(page.getByLabel("Password")).toHaveValue("");
  }
  expect(said[0]).toBe(said[1]);
  expect(sealport.said).not.toContain("not the passphrase");
});

test("the name's case and the spaces around it do not matter", async ({ page }) => {
  await signIn(page, sealport, { ...BOB, email: "BOB@Example.org" });
});

test("one arrives where one wanted to go, inside Sealport only", async ({ page }) => {
  await page.goto(`${sealport.url}/activity?path=x`);
  await expect(page).toHaveURL(/\/sign-in\?next=/);
  await page.getByLabel("E-mail").fill(BOB.email);
  await page.getByLabel("Password").fill(BOB.password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page).toHaveURL(/\/activity\?path=x$/);
  await page.context().clearCookies();
  for (const next of ["https://evil.example/", "//evil.example/", "/\\evil.example/", "\\/evil.example", "javascript:alert(1)", "/\t/evil.example", "/_fn/secrets_list", "/../..//evil.example/"]) {
    const answer = await post(page.request, "/sign-in", { ...BOB, next });
    expect(answer.status()).toBe(303);
    const to = new URL(answer.headers().location ?? "", sealport.url);
    expect(to.origin, next).toBe(sealport.url);
    expect(to.pathname.startsWith("/_fn/"), next).toBe(false);
    await page.context().clearCookies();
  }
});

test("signing out is a POST and ends the session, not only the cookie", async ({ page }) => {
  await signIn(page, sealport, BOB);
  const cookies = await page.context().cookies();
  expect((await page.request.get(`${sealport.url}/sign-out`, { maxRedirects: 0 })).status()).toBeGreaterThanOrEqual(400);
  await page.goto(`${sealport.url}/secrets`);
  await expect(page).toHaveURL(/\/secrets$/);
  await page.getByRole("button", { name: "Sign out" }).filter({ visible: true }).click();
  await expect(page).toHaveURL(/\/sign-in/);
  await page.context().addCookies(cookies);
  await page.goto(`${sealport.url}/secrets`);
  await expect(page).toHaveURL(/\/sign-in/);
});

test("a new password ends the other sessions", async ({ browser, page }) => {
  const other = await browser.newPage();
  await signIn(other, sealport, BOB);
  await signIn(page, sealport, BOB);
  await page.goto(`${sealport.url}/settings`);
  await page.getByLabel("Current password").fill("not the passphrase");
  await page.getByLabel("New password").fill("bob thought of a newer one");
  await page.getByRole("button", { name: "Change password" }).click();
  await expect(page.getByLabel("Current password")).toHaveAttribute("aria-invalid", "true");
  await page.getByLabel("Current password").fill(BOB.password);
  await page.getByLabel("New password").fill("bob thought of a newer one");
  await page.getByRole("button", { name: "Change password" }).click();
  await expect(page.getByRole("status")).toContainText("Your password is changed.");
  await page.goto(`${sealport.url}/secrets`);
  await expect(page).toHaveURL(/\/secrets$/);
  await other.goto(`${sealport.url}/secrets`);
  await expect(other).toHaveURL(/\/sign-in/);
  await other.close();
  const old = await post(page.request, "/sign-in", BOB);
  expect(old.headers().location).toMatch(/^\/sign-in/);
  BOB.password = "bob thought of a newer one";
  await page.context().clearCookies();
  await signIn(page, sealport, BOB);
});

test("the cookie is nobody's to read, and not sent from other sites' forms", async ({ page }) => {
  await signIn(page, sealport, BOB);
  const cookies = await page.context().cookies();
  const session = cookies.find((cookie) => cookie.name === "sealport");
  expect(session).toMatchObject({ httpOnly: true, sameSite: "Lax", path: "/" });
  expect(await page.evaluate("document.cookie")).toBe("");
  // A new sign-in is a new session: an id that was planted before is worth nothing.
  const planted = session?.value;
  await page.goto(`${sealport.url}/sign-in`);
  await post(page.request, "/sign-in", BOB);
  const after = (await page.context().cookies()).find((cookie) => cookie.name === "sealport");
  expect(after?.value).not.toBe(planted);
});

test("what another site sends is refused, whatever cookie comes with it", async ({ page }) => {
  await signIn(page, sealport);
  const cases: [Record<string, string>, number][] = [
    [{ origin: "https://evil.example" }, 403],
    [{ origin: "null" }, 403],
    [{ origin: sealport.url.replace("127.0.0.1", "127.0.0.1.evil.example") }, 403],
    [{ origin: sealport.url.replace("http:", "https:") }, 403],
    [{ origin: sealport.url.replace(/:\d+$/, ":1") }, 403],
    [{ origin: sealport.url, "sec-fetch-site": "cross-site" }, 403],
    [{ origin: sealport.url, "sec-fetch-site": "same-site" }, 403],
    [{ origin: "" }, 403],
  ];
  for (const [headers, status] of cases) {
    for (const to of ["/_fn/secret_add", "/_fn/draft_new", "/sign-out", "/sign-in", "/welcome/guess", "/settings/password"]) {
      const answer = await post(page.request, to, { path: "PLANTED", value: "by another site", ...ADMIN }, headers);
      expect(answer.status(), `${to} with ${JSON.stringify(headers)}`).toBe(status);
    }
  }
  await page.goto(`${sealport.url}/secrets`);
  await expect(page).toHaveURL(/\/secrets$/);
  await expect(page.getByRole("main")).toContainText("KEPT");
  await expect(page.getByRole("main")).not.toContainText("PLANTED");
  // A host name that was rebound to our address is another site.
  const rebound = await page.request.get(`${sealport.url}/secrets`, { headers: { host: "evil.example" }, maxRedirects: 0 });
  expect(rebound.status()).toBe(421);
});

test("nothing is changed by a GET", async ({ page }) => {
  await signIn(page, sealport);
  for (const name of ["secret_add", "secret_delete", "secret_replace", "draft_new", "deployment_destroy", "gateway_token_new"]) {
    const answer = await page.request.get(`${sealport.url}/_fn/${name}?path=BY_GET&value=abcdefgh`, { maxRedirects: 0 });
    expect(answer.status(), name).toBeGreaterThanOrEqual(400);
  }
  await page.goto(`${sealport.url}/secrets`);
  await expect(page.getByRole("main")).not.toContainText("BY_GET");
});

test("every answer carries its headers, and a page its policy", async ({ page }) => {
  await signIn(page, sealport);
  for (const path of ["/secrets", "/sign-in", "/nothing-here", "/healthz", "/favicon.svg", "/_fn/secrets_list"]) {
    const answer = await page.request.get(`${sealport.url}${path}`);
    const headers = answer.headers();
    expect(headers["x-content-type-options"], path).toBe("nosniff");
    expect(headers["referrer-policy"], path).toBe("same-origin");
    expect(headers["content-security-policy"], path).toMatch(/default-src 'none'.*frame-ancestors 'none'/);
    expect(headers["content-security-policy"], path).not.toMatch(/'unsafe-(inline|eval)'/);
    expect(headers["cross-origin-opener-policy"], path).toBe("same-origin");
    expect(headers["cache-control"], path).toBe("no-store");
    expect(headers["x-request-id"], path).toMatch(/^[0-9a-f-]{36}$/);
    expect(headers.server, path).toBeUndefined();
  }
  const nonces = new Set<string>();
  for (let i = 0; i < 3; i++) {
    const policy = (await page.request.get(`${sealport.url}/secrets`)).headers()["content-security-policy"] ?? "";
    nonces.add(/'nonce-([^']+)'/.exec(policy)?.[1] ?? "");
  }
  expect(nonces.size).toBe(3);
});

test("no page breaks its own policy, and none writes an error to the console", async ({ page }) => {
  const wrong: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") wrong.push(`${page.url()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => wrong.push(`${page.url()}: ${error.message}`));
  await page.goto(`${sealport.url}/sign-in`, { waitUntil: "networkidle" });
  await signIn(page, sealport);
  for (const path of ["/secrets", "/secrets/new", "/secrets/ada/KEPT", "/deploy", "/deployments", "/activity", "/tokens", "/people", "/settings"]) {
    await page.goto(`${sealport.url}${path}`, { waitUntil: "networkidle" });
  }
  await page.goto(`${sealport.url}/deploy`);
  await page.getByRole("button", { name: "New deployment" }).click();
  await page.waitForURL(/\/source$/);
  await page.waitForLoadState("networkidle");
  expect(wrong).toEqual([]);
});

test("guessing is slowed down", async ({ page }) => {
  await page.goto(`${sealport.url}/sign-in`);
  let slowed = false;
  for (let i = 0; i < 40 && !slowed; i++) {
    await post(page.request, "/sign-in", { email: ADMIN.email, password: `guess number ${i}` });
    await page.goto(`${sealport.url}/sign-in`);
    slowed = /often|too many|wait|later/i.test(await page.getByRole("alert").innerText().catch(() => ""));
  }
  expect(slowed).toBe(true);
});
