// A person makes a token of the API in the dashboard, a program uses it within its bounds, and the person ends it.

import { expect, test } from "@playwright/test";

import { Sealport } from "../support/sealport.ts";
import { addSecret, canary, welcome } from "../support/steps.ts";

test("a token is made, shown once, bounded and revoked", async ({ page, request }) => {
  test.setTimeout(120_000);
  const sealport = new Sealport();
  try {
    await sealport.start();
    await welcome(page, sealport);
    const value = canary();
    await addSecret(page, sealport, { path: "project/shop/API_KEY", value });
    await addSecret(page, sealport, { path: "project/other/API_KEY", value: canary() });

    await page.goto(`${sealport.url}/tokens`);
    // With nothing in the list the form is open.
    const form = page.locator("#new");
    await form.getByLabel("What it is for").fill("CI of the shop");
    await form.getByLabel("It can at most").selectOption("read");
    await form.getByLabel("Only paths under").fill("shop");
    await form.getByRole("button", { name: "Make the token" }).click();
    await expect(form).toContainText("A folder begins with meta, project or service");
    await expect(form.getByLabel("What it is for")).toHaveValue("CI of the shop");
    await form.getByLabel("Only paths under").fill("project/shop");
    await form.getByRole("button", { name: "Make the token" }).click();
    const token = (await page.locator("#token").textContent())?.trim() ?? "";
    expect(token).toMatch(/^sp_[A-Za-z0-9]{49}$/);

    const read = (path: string) => request.get(`${sealport.url}/api/v1/values/${path}`, { headers: { authorization: `Bearer ${token}` } });
    const answer = await read("project/shop/API_KEY");
    expect(await answer.json()).toEqual({ path: "project/shop/API_KEY", version: 1, value });
    expect((await read("project/other/API_KEY")).status()).toBe(404);

    // Shown this once; the list says what it opens, and that it was used.
    await page.goto(`${sealport.url}/tokens`);
    await expect(page.locator("#token")).toHaveCount(0);
    const row = page.getByRole("listitem").filter({ hasText: "CI of the shop" });
    await expect(row).toContainText("API: read on ada’s project/shop/");
    await expect(row).toContainText("Used");
    await page.goto(`${sealport.url}/activity`);
    await expect(page.getByRole("main")).toContainText("CI of the shop");
    await expect(page.getByRole("main")).toContainText("read the value of");
    expect(await page.content()).not.toContain(value.slice(0, 12));

    await page.goto(`${sealport.url}/tokens`);
    await page.getByLabel("Revoke CI of the shop").click();
    await page.getByRole("button", { name: "Revoke this token" }).click();
    await expect(page.getByRole("main")).toContainText("Revoked");
    const refused = await read("project/shop/API_KEY");
    expect(refused.status()).toBe(401);
    expect(refused.headers()["content-type"]).toBe("application/problem+json");
    expect((await refused.json()).type).toBe("/problems/unauthenticated");
  } finally {
    await sealport.remove();
  }
});

test("the API’s reference is readable without signing in, and loads its mark alone", async ({ page }) => {
  const sealport = new Sealport();
  try {
    await sealport.start();
    const loaded: string[] = [];
    page.on("request", (asked) => loaded.push(new URL(asked.url()).pathname));
    await page.goto(`${sealport.url}/api/docs`);
    await expect(page.getByRole("heading", { name: "The API of Sealport" })).toBeVisible();
    await expect(page.getByText("/api/v1/values/{path}")).toBeVisible();
    await page.getByRole("link", { name: "precondition-failed" }).click();
    await expect(page.getByRole("heading", { name: "Changed meanwhile" })).toBeVisible();
    expect(loaded.filter((path) => !["/api/docs", "/problems/precondition-failed", "/mark.svg", "/favicon.svg"].includes(path))).toEqual([]);
  } finally {
    await sealport.remove();
  }
});
