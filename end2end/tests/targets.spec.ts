// Render and Railway through the wizard, with and without JavaScript: what would be made is said first, a provider that answers with
// all that it was sent tells nobody a value, its logs stand on the page, and what runs there is called through the gateway.

import { type BrowserContext, expect, type Page, test } from "@playwright/test";

import { callByNode, textOf } from "../support/clients.ts";
import { CommandLines, CONTROL, nothingHolds, random, readEvents, readStream } from "../support/leaks.ts";
import { Providers } from "../support/providers.ts";
import { Answers } from "../support/recorder.ts";
import { Sealport } from "../support/sealport.ts";
import { act, addSecret, ADMIN, askToDestroy, bind, connect, type Gateway, inspect, reaches, replace, state, type Wanted, welcome } from "../support/steps.ts";

const TARGETS = [
  {
    at: "render",
    title: "Render",
    source: { kind: "Container image, for a provider", source: "registry.example/crawl:1" },
    options: { Region: "frankfurt", Plan: "free" },
    plan: ["Make a web service in the workspace tea-1 at Render, from the image registry.example/crawl:1. Region frankfurt, plan free."],
    /** The requests that are refused once: while the review is made, while the service is, and while it is looked at. */
    asking: "GET /v1/owners",
    making: "POST /v1/services",
    looking: "GET /v1/services/",
  },
  {
    at: "railway",
    title: "Railway",
    source: { kind: "npm package", source: "@modelcontextprotocol/server-everything" },
    options: { Workspace: "workspace-1" },
    plan: [
      "This key can make, change and delete every project in Ada's.",
      "Make a service in a project of its own, in the workspace Ada's, at Railway, from the image registry.example/sealport-bridge-node:1,",
      "started with: sealport bridge -- npx -y @modelcontextprotocol/server-everything@",
    ],
    asking: "projects",
    making: "variableCollectionUpsert",
    looking: "serviceInstance",
  },
] as const;

type Target = (typeof TARGETS)[number];

const value = { render: random(), railway: random(), renderKey: random(), railwayKey: random(), shared: random(), renewed: random() };
/** What both have. */
const SHARED = "project/shop/SHARED_KEY";
/** What must stand nowhere either: made on the way. */
const gatewayKeys: Record<string, string> = {};
const tokens: Record<string, string> = {};
const gateways: Partial<Record<Target["at"], Gateway>> = {};

let providers: Providers;
let sealport: Sealport;
let context: BrowserContext;
let page: Page;
let commandLines: CommandLines;
let answers: Answers;

test.describe.configure({ mode: "serial" });

const nameOf = (target: Target) => `at-${target.at}`;
const pathOf = (target: Target) => `service/${target.at}/API_KEY`;
const log = () => page.locator("[data-log]");
const open = (target: Target) => page.goto(`${sealport.url}/deployments/${nameOf(target)}`);

function wanted(target: Target): Wanted {
  return {
    ...target.source,
    secrets: { API_KEY: pathOf(target), SHARED_KEY: SHARED },
    plain: { [CONTROL]: CONTROL },
    target: { title: target.title, options: target.options },
    name: nameOf(target),
  };
}

/** The one service that the provider has. */
async function service(target: Target) {
  const there = await providers.there(target.at);
  expect(there.wrong).toEqual([]);
  expect(there.services).toHaveLength(1);
  return there.services[0]!;
}

test.beforeAll(async ({ browser }, testInfo) => {
  test.setTimeout(300_000);
  commandLines = new CommandLines();
  providers = await Providers.started({ render: value.renderKey, railway: value.railwayKey });
  answers = await Answers.open();
  sealport = await Sealport.started({ ...answers.settings, ...providers.settings, SEALPORT_LOG: "debug,sealport=trace" });
  answers.leadTo(sealport.port);
  context = await browser.newContext({ javaScriptEnabled: testInfo.project.use.javaScriptEnabled ?? true });
  page = await context.newPage();
  await welcome(page, sealport);
  await addSecret(page, sealport, { path: SHARED, value: value.shared });
  for (const target of TARGETS) {
    await addSecret(page, sealport, { path: pathOf(target), value: value[target.at], description: CONTROL });
    await addSecret(page, sealport, { path: `meta/${target.at}/api_key`, value: value[`${target.at}Key`] });
  }
});

test.afterEach(async () => {
  const content = await page.content();
  for (const one of Object.values({ ...value, ...gatewayKeys })) expect(content).not.toContain(one.slice(0, 8));
});

test.afterAll(async () => {
  commandLines.end();
  await page?.close();
  answers?.close();
  await sealport?.remove();
  providers?.close();
});

for (const target of TARGETS) {
  test(`${target.title}: the review says what is made there, and not what the provider repeats`, async () => {
    await inspect(page, sealport, wanted(target));
    await providers.willEcho(target.at, target.asking);
    await bind(page, wanted(target));
    await expect(page.getByRole("alert")).toContainText("[sealed]");
    const changes = page.getByRole("region", { name: `What happens at ${target.title}` });
    await expect(changes).toContainText("Nothing until what is in the way is mended.");
    await page.reload();
    await expect(page.getByRole("alert")).toHaveCount(0);
    for (const sentence of target.plan) await expect(changes).toContainText(sentence);
    const set = changes.getByRole("listitem").filter({ hasText: "Set there: " });
    for (const name of ["API_KEY", "SHARED_KEY", CONTROL, "NODE_ENV", "PORT", "SEALPORT_GATEWAY_SECRET"]) await expect(set).toContainText(name);
    expect(await providers.there(target.at)).toEqual({ services: [], projects: [], wrong: [] });
  });

  test(`${target.title}: a refusal that repeats all it was sent is told without the values`, async () => {
    await providers.willEcho(target.at, target.making);
    await page.getByRole("button", { name: "Deploy", exact: true }).click();
    await page.waitForURL(new RegExp(`/deployments/${nameOf(target)}$`));
    await reaches(page, "Failed");
    await expect(state(page)).toContainText("[sealed]");
    await expect(state(page)).toContainText(CONTROL);
  });

  test(`${target.title}: its steps and its logs come as it happens, masked`, async ({ javaScriptEnabled }) => {
    await act(page, "Redeploy");
    if (javaScriptEnabled === false) {
      await reaches(page, "Running");
    } else {
      await page.evaluate("window.stayed = true");
      await expect(log()).toContainText(`built with ${CONTROL}=${CONTROL}`, { timeout: 120_000 });
      await expect(state(page)).toContainText("Running", { timeout: 120_000 });
      expect(await page.evaluate("window.stayed")).toBe(true);
    }
    for (const name of ["Provision", "Build", "Handshake"]) {
      await expect(page.getByRole("listitem").filter({ hasText: name }).first()).toContainText("done");
    }
    for (const when of ["built", "runs"]) {
      for (const says of [`API_KEY=[sealed]`, `SEALPORT_GATEWAY_SECRET=[sealed]`, `${CONTROL}=${CONTROL}`]) {
        await expect(log()).toContainText(`${when} with ${says}`);
      }
    }
    await expect(state(page)).toContainText(`Runs at${target.title}`);
    const { variables } = await service(target);
    expect([variables.API_KEY, variables.SHARED_KEY]).toEqual([value[target.at], value.shared]);
    expect(variables[CONTROL]).toBe(CONTROL);
    gatewayKeys[`${target.at}Gateway`] = variables.SEALPORT_GATEWAY_SECRET!;
    await page.goto(`${sealport.url}/deployments`);
    const row = page.getByRole("row").filter({ hasText: nameOf(target) });
    await expect(row).toContainText("Running");
    await expect(page.getByRole("rowheader", { name: target.title })).toBeVisible();
  });

  test(`${target.title}: what runs there is called through the gateway`, async ({ javaScriptEnabled }) => {
    test.skip(javaScriptEnabled === false, "done once, with JavaScript");
    await open(target);
    const gateway = await connect(page);
    gateways[target.at] = gateway;
    tokens[`${target.at}Token`] = gateway.token;
    const result = await callByNode(gateway.url, gateway.token, "get-env");
    answers.add(`a call of what is at ${target.title}`, JSON.stringify(result));
    expect(result.isError ?? false, textOf(result)).toBe(false);
    expect(textOf(result)).toContain("API_KEY=[sealed]");
    expect(textOf(result)).toContain(`${CONTROL}=${CONTROL}`);
    await expect(callByNode(gateway.url.replace(nameOf(target), "another"), gateway.token, "--list")).rejects.toThrow("Send a gateway token of this deployment");
    // The token is shown no more.
    await open(target);
  });

  test(`${target.title}: a look for drift tells nothing of what is repeated there, and finds none`, async () => {
    await open(target);
    const look = page.getByRole("button", { name: "Look for drift" });
    await providers.willEcho(target.at, target.looking);
    await look.click();
    await expect(page.getByRole("alert")).toContainText(target.title);
    await look.click();
    await expect(page.getByRole("status").filter({ hasText: "Nothing has changed there since Sealport last deployed." })).toBeVisible();
    await expect(page.getByRole("alert")).toHaveCount(0);
  });

  test(`${target.title}: it is stopped and started there`, async ({ javaScriptEnabled }) => {
    test.skip(javaScriptEnabled === false, "done once, with JavaScript");
    const { url, token } = gateways[target.at]!;
    await act(page, "Stop");
    await reaches(page, "Stopped");
    expect((await service(target)).stopped).toBe(true);
    await expect(callByNode(url, token, "--list")).rejects.toThrow("This server is not running now.");
    await act(page, "Start");
    await reaches(page, "Running");
    expect((await service(target)).stopped).toBe(false);
    expect(textOf(await callByNode(url, token, "get-env"))).toContain("API_KEY=[sealed]");
  });
}

test("a changed secret is brought to both, and the page tells how far that is", async ({ javaScriptEnabled }) => {
  await page.goto(`${sealport.url}/secrets/${ADMIN.handle}/${SHARED}`);
  const runs = page.getByRole("region", { name: "Runs now" });
  const button = runs.getByRole("button", { name: /^Redeploy/ });
  await expect(runs.getByText("the newest value, version 1")).toHaveCount(TARGETS.length);
  await expect(button).toHaveCount(0);
  await replace(page, value.renewed);
  await expect(runs.getByText("an older value, version 1")).toHaveCount(TARGETS.length);
  for (const target of TARGETS) {
    await expect(runs.getByRole("listitem").filter({ hasText: nameOf(target) })).toContainText(target.title);
    expect((await service(target)).variables.SHARED_KEY).toBe(value.shared);
  }
  await expect(button).toHaveText("Redeploy the 2 that run an older value");
  await button.click();
  await expect(page.getByRole("status")).toContainText("2 deployments are being redeployed with the newest value.");
  if (javaScriptEnabled !== false) await page.evaluate("window.stayed = true");
  await expect(runs.getByText(/^Release \d+ is under way: /).first()).toBeVisible();
  await expect(runs.getByText("the newest value, version 2")).toHaveCount(TARGETS.length, { timeout: 120_000 });
  await expect(button).toHaveCount(0);
  if (javaScriptEnabled !== false) expect(await page.evaluate("window.stayed")).toBe(true);
  for (const target of TARGETS) expect((await service(target)).variables.SHARED_KEY).toBe(value.renewed);
});

test("neither pages, streams, REST, MCP, the log nor what is kept hold 8 characters of a value", async ({ javaScriptEnabled }) => {
  test.skip(javaScriptEnabled === false, "done once, with JavaScript");
  test.setTimeout(600_000);
  const token = (await sealport.command(["token", "new", "--user", ADMIN.email, "--name", "looks", "--can", "admin", "--deploy"])).trim();
  tokens.apiToken = token;
  const authorization = `Bearer ${token}`;
  const cookies = await context.cookies();
  const cookie = cookies.map(({ name, value }) => `${name}=${value}`).join("; ");
  const keep = (what: string, text: string, holds: string) => {
    answers.add(what, text);
    expect(text, what).toContain(holds);
  };
  keep("the cookies", JSON.stringify(cookies), "httpOnly");
  for (const target of TARGETS) {
    const rest = `${sealport.url}/api/v1/deployments`;
    const [name, own] = [nameOf(target), `${rest}/${nameOf(target)}`];
    const asked = { headers: { authorization } };
    keep(`events of ${name}`, await readEvents(`${sealport.url}/deployments/${name}`, cookie), "API_KEY=[sealed]");
    keep(`logs of ${name}`, await readStream(`${own}/logs?follow=false`, { authorization }), "API_KEY=[sealed]");
    keep(`${name} by REST`, await (await fetch(own, asked)).text(), CONTROL);
    keep(`its failed release by REST`, await (await fetch(`${own}/releases/1`, asked)).text(), "[sealed]");
    await providers.willEcho(target.at, target.asking);
    const { source, kind } = target.source;
    const order = {
      name: "another",
      source: kind === "npm package" ? `npm:${source}` : `image:${source}`,
      target: target.at,
      bindings: [{ env: "API_KEY", secret: pathOf(target) }],
    };
    const headers = { authorization, "content-type": "application/json" };
    const plan = await fetch(`${rest}?dry_run=true`, { method: "POST", headers, body: JSON.stringify(order) });
    keep(`a plan that ${target.title} refuses`, await plan.text(), "[sealed]");
    for (const [tool, holds] of [["deployment_status", CONTROL], ["deployment_logs", "API_KEY=[sealed]"]] as const) {
      const said = await callByNode(`${sealport.url}/mcp`, token, tool, { name });
      keep(`${tool} of ${name}`, JSON.stringify(said), holds);
    }
    await open(target);
  }
  for (const path of ["/secrets", "/activity", "/tokens", "/deploy", "/deployments"]) await page.goto(`${sealport.url}${path}`);
  await nothingHolds({ ...value, ...gatewayKeys }, { sealport, answers, commandLines, tokens });
});

for (const target of TARGETS) {
  test(`${target.title}: destroyed, nothing of it stays there`, async () => {
    await open(target);
    await askToDestroy(page, nameOf(target));
    await page.waitForLoadState();
    await expect.poll(() => providers.there(target.at)).toEqual({ services: [], projects: [], wrong: [] });
    await expect(async () => {
      await page.goto(`${sealport.url}/deployments`);
      await expect(page.getByRole("main")).not.toContainText(nameOf(target), { timeout: 1_000 });
    }).toPass({ timeout: 30_000 });
  });
}
