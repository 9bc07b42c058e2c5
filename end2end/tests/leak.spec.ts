// The leak test: values are stored, replaced, compared, deployed, and made to fail in every way there is. Nothing that
// Sealport wrote meanwhile (answers, logs, command lines, files, database) may hold 8 characters of one.

import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";

import { expect, type Page, test } from "@playwright/test";

import { callByNode } from "../support/clients.ts";
import { CommandLines, CONTROL, nothingHolds, nothingInFiles, random, readEvents, Searcher } from "../support/leaks.ts";
import { Answers } from "../support/recorder.ts";
import { freePort, ROOT, Sealport } from "../support/sealport.ts";
import { act, addSecret, ADMIN, bind, compare, connect, deploy, inspect, openFolding, reaches, state, welcome } from "../support/steps.ts";

const FIXTURES = join(ROOT, "end2end/fixtures");

test("the searcher finds every piece in every form, also across what it reads at once", async () => {
  const value = random();
  const searcher = new Searcher({ value });
  expect(searcher.in(randomBytes(1 << 16))).toEqual([]);
  for (let at = 0; at + 8 <= value.length; at += 5) {
    const piece = Buffer.from(value.slice(at, at + 8));
    for (const text of [
      piece.toString(),
      piece.toString("hex"),
      piece.toString("hex").toUpperCase(),
      encodeURIComponent(piece.toString()),
      ...[0, 1, 2].map((before) => Buffer.concat([randomBytes(before), piece, randomBytes(2)]).toString("base64")),
      Buffer.concat([randomBytes(1), piece, randomBytes(2)]).toString("base64url"),
    ]) {
      expect(searcher.in(`…${text}…`), text).not.toEqual([]);
    }
    expect(searcher.in(`${value.slice(at, at + 7)}\n`)).toEqual([]);
  }
  const dir = mkdtempSync(join(tmpdir(), "sealport-searcher-"));
  try {
    const path = join(dir, "large");
    writeFileSync(path, Buffer.concat([Buffer.alloc((4 << 20) - 5), Buffer.from(value), Buffer.alloc(100)]));
    expect(await searcher.inFile(path)).not.toEqual([]);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("every answer is kept: redirects, headers, what is compressed, streams, and what is given up half-way", async ({ page }) => {
  const value = { header: random(), redirect: random(), page: random(), gzip: random(), brotli: random(), stream: random(), half: random() };
  // The last two have no end.
  const script = `Promise.all(["gzip", "brotli", "stream", "half"].map(async (name) => {
    const until = new AbortController();
    const reader = (await fetch(name, { signal: until.signal })).body.getReader();
    await reader.read();
    until.abort();
  })).then(() => document.body.append("all read"))`;
  const far = createServer((request, response) => {
    const headers = { "x-header": value.header };
    const answers: Record<string, () => void> = {
      "/": () => response.writeHead(302, { ...headers, location: "/page" }).end(value.redirect),
      "/page": () => response.writeHead(200, { "content-type": "text/html" }).end(`<p>${value.page}</p><body><script>${script}</script>`),
      "/gzip": () => response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync(value.gzip)),
      "/brotli": () => response.writeHead(200, { "content-encoding": "br" }).end(brotliCompressSync(value.brotli)),
      "/stream": () => response.writeHead(200, { "content-type": "text/event-stream" }).write(`data: ${value.stream}\n\n`),
      "/half": () => response.writeHead(200).write(value.half),
    };
    (answers[request.url ?? ""] ?? (() => response.writeHead(404).end()))();
  });
  await new Promise<void>((done) => far.listen(0, "127.0.0.1", done));
  const answers = await Answers.open();
  try {
    answers.leadTo((far.address() as AddressInfo).port);
    await page.goto(answers.url);
    await expect(page.getByText("all read")).toBeVisible();
    const kept = Buffer.concat((await answers.all()).map(({ text }) => text));
    for (const [name, one] of Object.entries(value)) expect(new Searcher({ one }).in(kept), name).not.toEqual([]);
  } finally {
    answers.close();
    far.close();
    far.closeAllConnections();
  }
});

test("nothing that is written holds 8 characters of a value", async ({ page }) => {
  test.setTimeout(1_200_000);
  const value = {
    password: random(),
    stored: random(),
    replaced: random(),
    comparedWrong: random(),
    lineOfMany: random(),
    taken: random(),
    badPath: random(),
    badDay: random(),
    tooLong: random(),
    stale: random(),
    crossSite: random(),
    imported: random(),
    importConflict: random(),
    importNoName: random(),
    importBroken: random(),
    byGet: random(),
    notAForm: random(),
    unknownId: random(),
    signedOut: random(),
    wrongPassword: random(),
    newPassword: random(),
    refusedPlain: random(),
    onTheSpot: random(),
    onTheSpotBadPath: random(),
    fetchKey: random(),
    givenAway: random(),
    lastWords: random(),
    neverStarted: random(),
  };
  const admin = { ...ADMIN, password: value.password };
  const answers = await Answers.open();
  const commandLines = new CommandLines();
  const sealport = await Sealport.started({
    ...answers.settings,
    SEALPORT_DIR_ROOTS: FIXTURES,
    SEALPORT_SOURCE_HOSTS: "127.0.0.1",
    SEALPORT_LOG: "debug,sealport=trace",
  });
  try {
    answers.leadTo(sealport.port);
    await welcome(page, sealport, admin);
    await storeAndFail(page, sealport, value);
    const tokens = await deployAndFail(page, sealport, answers, value);
    await test.step("the server dies in the middle of it all and comes back", async () => {
      await sealport.stop("SIGKILL");
      await sealport.start();
      await page.goto(`${sealport.url}/deployments/gives-away`);
      await reaches(page, "Running");
    });
    await test.step("a wrong password, and a new one", async () => {
      await page.goto(`${sealport.url}/settings`);
      await page.getByLabel("Current password").fill(value.wrongPassword);
      await page.getByLabel("New password").fill(value.newPassword);
      await page.getByRole("button", { name: "Change password" }).click();
      await page.getByLabel("Current password").fill(value.password);
      await page.getByLabel("New password").fill(value.newPassword);
      await page.getByRole("button", { name: "Change password" }).click();
      await expect(page.getByRole("status")).toContainText("Your password is changed.");
    });
    for (const path of ["/secrets", `/secrets/ada/${CONTROL}`, "/activity", "/tokens", "/people", "/settings", "/deploy", "/deployments", "/deployments/gives-away", "/deployments/last-words", "/nothing-here"]) {
      await page.goto(`${sealport.url}${path}`);
    }
    await nothingHolds(value, { sealport, answers, commandLines, tokens });
    await test.step("every file, after it stopped", async () => {
      await sealport.stop();
      await nothingInFiles({ ...value, ...tokens }, sealport);
    });
  } finally {
    commandLines.end();
    answers.close();
    await sealport.remove();
  }
});

type Values = Record<
  | "stored" | "replaced" | "comparedWrong" | "lineOfMany" | "taken" | "badPath" | "badDay" | "tooLong" | "stale" | "crossSite"
  | "imported" | "importConflict" | "importNoName" | "importBroken" | "byGet" | "notAForm" | "unknownId" | "signedOut" | "refusedPlain" | "onTheSpot" | "onTheSpotBadPath" | "fetchKey"
  | "givenAway" | "lastWords" | "neverStarted",
  string
>;

async function storeAndFail(page: Page, sealport: Sealport, value: Values): Promise<void> {
  const add = async (fields: { path: string; value: string; expires?: string }) => {
    await page.goto(`${sealport.url}/secrets/new`);
    await page.getByLabel("Path").fill(fields.path);
    await page.getByLabel("Value").fill(fields.value);
    if (fields.expires) await page.getByLabel(/^Expires on/).evaluate((input, day) => ((input as HTMLInputElement).type = "text", ((input as HTMLInputElement).value = day)), fields.expires);
    // Sent whatever the browser holds against it.
    await page.locator("form[action='/_fn/secret_add']").evaluate((form) => ((form as HTMLFormElement).noValidate = true));
    await page.getByRole("button", { name: "Seal and add" }).click();
  };
  await test.step("stored, replaced, compared", async () => {
    await addSecret(page, sealport, { path: CONTROL, value: value.stored, description: CONTROL });
    await addSecret(page, sealport, { path: "project/web/MANY_LINES", value: `first line\n${value.lineOfMany}\nlast line` });
    await page.goto(`${sealport.url}/secrets/ada/${CONTROL}`);
    const old = await page.context().newPage();
    await old.goto(page.url());
    await openFolding(page, "Replace the value");
    await page.getByLabel("New value").fill(value.replaced);
    await page.getByRole("button", { name: "Seal and replace" }).click();
    await expect(page.getByText("Sealed, version 2")).toBeVisible();
    await openFolding(old, "Replace the value");
    await old.getByLabel("New value").fill(value.stale);
    await old.getByRole("button", { name: "Seal and replace" }).click();
    await expect(old.getByRole("alert")).toBeVisible();
    await old.close();
    for (const guess of [value.replaced, value.stored, value.comparedWrong]) {
      await compare(page, guess, guess === value.replaced ? "The same:" : "Different:");
    }
  });
  await test.step("refused: taken, malformed, too long", async () => {
    await add({ path: CONTROL, value: value.taken });
    await expect(page.getByText("A secret with this path is stored already")).toBeVisible();
    await add({ path: "not a path", value: value.badPath });
    await expect(page.getByLabel("Path")).toHaveAttribute("aria-invalid", "true");
    await add({ path: "BAD_DAY", value: value.badDay, expires: "never" });
    await expect(page.getByText("Write the day as in 2027-03-31")).toBeVisible();
    await add({ path: "TOO_LONG", value: value.tooLong + "x".repeat(65_536) });
    await expect(page.getByLabel("Value")).toHaveAttribute("aria-invalid", "true");
    await add({ path: "FAR_TOO_LONG", value: value.tooLong + "x".repeat(400_000) });
    await page.waitForLoadState();
  });
  await test.step("imported, decided and taken back", async () => {
    const look = async (file: string) => {
      await page.goto(`${sealport.url}/secrets/import`);
      await page.getByLabel(/^Paste the variables/).fill(file);
      await page.getByRole("button", { name: "Look at it" }).click();
    };
    await look(`{"BROKEN": "${value.importBroken}"`);
    await expect(page.getByText("This is not JSON")).toBeVisible();
    const file = `IMPORTED=${value.imported}\n${CONTROL}=${value.importConflict}\n${value.importNoName}\nOPEN="${value.importNoName}`;
    await look(file);
    await expect(page.getByRole("main")).toContainText("replace another value");
    await page.getByRole("button", { name: "Import what is ticked" }).click();
    await expect(page.getByRole("status")).toContainText("1 added, 0 replaced.");
    // One that waits, and stays so to the end.
    await look(file);
    await expect(page.getByRole("main")).toContainText("the same value is stored");
  });
  await test.step("sent in ways that no form of ours sends", async () => {
    const cookies = (await page.context().cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
    const send = async (to: string, init: RequestInit & { headers?: Record<string, string> }) => {
      const response = await fetch(`${sealport.url}${to}`, { redirect: "manual", ...init, headers: { origin: sealport.url, cookie: cookies, ...init.headers } });
      await response.text();
      return response.status;
    };
    const form = (fields: Record<string, string>) => new URLSearchParams(fields).toString();
    const urlencoded = { "content-type": "application/x-www-form-urlencoded" };
    const valid = (text: string) => form({ path: "ANOTHER_WAY", value: text });
    expect(await send("/_fn/secret_add", { method: "POST", headers: { ...urlencoded, origin: "https://evil.example" }, body: valid(value.crossSite) })).toBe(403);
    expect(await send("/_fn/secret_add", { method: "POST", headers: { ...urlencoded, cookie: "" }, body: valid(value.signedOut) })).toBe(401);
    for (const query of [`/_fn/secret_add?${valid(value.byGet)}`, `/nothing-here?${valid(value.byGet)}`]) {
      expect(await send(query, {})).toBeGreaterThanOrEqual(400);
    }
    for (const [type, body] of [
      ["application/json", JSON.stringify({ path: "ANOTHER_WAY", value: value.notAForm })],
      ["text/plain", value.notAForm],
      ["multipart/form-data; boundary=b", `--b\r\nContent-Disposition: form-data; name="value"\r\n\r\n${value.notAForm}\r\n--b--\r\n`],
      ["application/x-www-form-urlencoded", `value=${encodeURIComponent(value.notAForm)}&value[a]=b&path[`],
      ["application/x-www-form-urlencoded", `generate=${encodeURIComponent(value.notAForm)}&path=ANOTHER_WAY&value=x`],
      ["application/x-www-form-urlencoded", `path=ANOTHER_WAY&value=${encodeURIComponent(value.notAForm)}%ff%00`],
    ] as const) {
      await send("/_fn/secret_add", { method: "POST", headers: { "content-type": type }, body });
    }
    const nobodys = "01900000-0000-7000-8000-000000000000";
    for (const to of ["secret_replace", "secret_compare"]) {
      await send(`/_fn/${to}`, { method: "POST", headers: urlencoded, body: form({ id: nobodys, path: CONTROL, expected: "1", value: value.unknownId }) });
      await send(`/_fn/${to}`, { method: "POST", headers: urlencoded, body: form({ id: value.unknownId, path: CONTROL, expected: value.unknownId, value: "x" }) });
    }
    await send("/_fn/no_such_function", { method: "POST", headers: urlencoded, body: valid(value.notAForm) });
    await send("/s/gives-away/mcp", { method: "POST", headers: { authorization: `Bearer ${value.notAForm}`, "content-type": "application/json" }, body: "{}" });
  });
}

/** Returns the gateway tokens that were made on the way. */
async function deployAndFail(page: Page, sealport: Sealport, answers: Answers, value: Values): Promise<Record<string, string>> {
  const echo = { kind: "Directory of this machine", source: join(FIXTURES, "echo") } as const;
  for (const [path, text] of [
    ["FETCH_KEY", value.fetchKey],
    ["GIVEN_AWAY", value.givenAway],
    ["LAST_WORDS", value.lastWords],
    ["NEVER_STARTED", value.neverStarted],
  ] as const) {
    await addSecret(page, sealport, { path, value: text });
  }
  await test.step("a source that cannot be fetched with its key", async () => {
    await page.goto(`${sealport.url}/deploy`);
    await page.getByRole("button", { name: "New deployment" }).click();
    await page.waitForURL(/\/source$/);
    await page.getByLabel("It is a").selectOption({ label: "Git repository over https" });
    await page.getByLabel("Package, repository, image or directory").fill(`https://127.0.0.1:${await freePort()}/owner/private.git`);
    await page.getByText("Private source, other command").click();
    await page.getByLabel("Fetch key").selectOption({ label: "FETCH_KEY" });
    await page.getByRole("button", { name: "Look at it" }).click();
    await expect(page.getByText("The source could not be looked at")).toBeVisible({ timeout: 120_000 });
  });
  await test.step("a value where plain text belongs, and one that is added on the spot", async () => {
    await inspect(page, sealport, { ...echo, name: "plain" });
    await page.getByRole("button", { name: "Go on to secrets" }).click();
    await page.getByLabel("Name of plain variable 1").fill("SHOP_API_KEY");
    await page.getByLabel("Text of plain variable 1").fill(value.refusedPlain);
    await page.getByRole("button", { name: "Go on to the target" }).click();
    await expect(page.getByText("SHOP_API_KEY looks like a secret, so its text was not kept")).toBeVisible();
    // Where it was refused, it can be stored as a secret; what else was typed stays.
    await page.getByLabel("Name of plain variable 2").fill("REGION");
    await page.getByLabel("Text of plain variable 2").fill("eu-west");
    for (const [path, text] of [["not a path", value.onTheSpotBadPath], ["SHOP_API_KEY", value.onTheSpot]] as const) {
      await page.getByLabel("Path of the new secret").fill(path);
      await page.getByLabel("Value", { exact: true }).fill(text);
      await page.getByRole("button", { name: "Seal and tick SHOP_API_KEY" }).click();
      if (path === "not a path") await expect(page.getByLabel("Path of the new secret")).toHaveValue(path);
    }
    await expect(page.getByRole("status").filter({ hasText: "Sealed and ticked: SHOP_API_KEY." })).toBeVisible();
    await expect(page.getByLabel("Text of plain variable 1")).toHaveValue("eu-west");
    await expect(page.getByLabel("SHOP_API_KEY", { exact: true })).toBeChecked();
  });
  const gateway = await test.step("a server that gives its value away, in its log and to its callers", async () => {
    await deploy(page, sealport, { ...echo, secrets: { GIVEN_AWAY: "GIVEN_AWAY" }, plain: { [CONTROL]: CONTROL }, name: "gives-away" });
    await reaches(page, "Running");
    const gateway = await connect(page);
    for (const tool of ["get-env", "fail", "--list"]) {
      const said = await callByNode(gateway.url, gateway.token, tool).then(JSON.stringify, String);
      expect(said).toContain("[sealed]");
      expect(said).toContain(CONTROL);
      answers.add(`the tool ${tool}`, said);
    }
    await page.goto(`${sealport.url}/deployments/gives-away`);
    await expect(page.locator("[data-log]")).toContainText("GIVEN_AWAY=[sealed]");
    return gateway;
  });
  await test.step("a server that exits with its value as its last words", async () => {
    await deploy(page, sealport, { ...echo, secrets: { LAST_WORDS: "LAST_WORDS" }, plain: { ECHO_EXIT: "1" }, name: "last-words" });
    await reaches(page, "Failed");
    await expect(state(page)).toContainText("[sealed]");
  });
  await test.step("a server whose file is not there", async () => {
    await inspect(page, sealport, { ...echo, command: "node not-there.mjs", name: "no-program" });
    await bind(page, { ...echo, secrets: { NEVER_STARTED: "NEVER_STARTED" }, name: "no-program" });
    await page.getByRole("button", { name: "Deploy", exact: true }).click();
    await page.waitForURL(/\/deployments\/no-program$/);
    await reaches(page, "Failed");
  });
  await test.step("what the pages are sent as it happens", async () => {
    const cookie = (await page.context().cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
    for (const name of ["gives-away", "last-words"]) {
      const text = await readEvents(`${sealport.url}/deployments/${name}`, cookie);
      expect(text).toContain("[sealed]");
    }
  });
  await test.step("stop, start, redeploy with the newest version, delete what is bound", async () => {
    await page.goto(`${sealport.url}/deployments/gives-away`);
    await act(page, "Stop");
    await reaches(page, "Stopped");
    await act(page, "Redeploy");
    await reaches(page, "Running");
    await page.goto(`${sealport.url}/secrets/ada/LAST_WORDS`);
    await openFolding(page, "Delete");
    await expect(page.getByRole("main")).toContainText("last-words");
    await page.getByLabel("Type LAST_WORDS to confirm").fill("LAST_WORDS");
    await page.getByRole("button", { name: "Delete this secret" }).click();
    await expect(page.getByRole("status")).toContainText("Deleted LAST_WORDS.");
    await page.goto(`${sealport.url}/deployments/last-words`);
    await act(page, "Redeploy");
    await reaches(page, "Failed");
  });
  return { gatewayToken: gateway.token };
}
