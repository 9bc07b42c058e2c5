// The leak test goes on, with what people bring, move and rotate: keys of callers, passwords by links, versions, teams, files, a server
// over HTTP, a build that fails, and a fetch key for a host that answers.

import { execFileSync } from "node:child_process";
import { appendFileSync } from "node:fs";
import { join } from "node:path";

import { expect, type Page, test } from "@playwright/test";

import { callByNode } from "../support/clients.ts";
import { GitHost } from "../support/git-host.ts";
import { CommandLines, CONTROL, nothingHolds, nothingInFiles, random, readEvents } from "../support/leaks.ts";
import { Answers } from "../support/recorder.ts";
import { PROGRAM, ROOT, Sealport } from "../support/sealport.ts";
import { serviceAccount } from "../support/service-account.ts";
import { addSecret, ADMIN, bind, compare, connect, deploy, inspect, openFolding, reaches, replace, welcome, type Wanted } from "../support/steps.ts";

const FIXTURES = join(ROOT, "end2end/fixtures");
const ECHO = { kind: "Directory of this machine", source: join(FIXTURES, "echo") } as const;
const GRACE = { email: "grace@example.org", handle: "grace" };
/** A name of the file and of what people bring, so that the record has it. */
const OWN_KEY = "OWN_KEY";

const account = serviceAccount();
const value = {
  ...account.secrets,
  password: random(),
  invited: random(),
  invitedShort: random().slice(0, 9),
  reset: random(),
  confirmedWrong: random(),
  first: random(),
  destroyed: random(),
  third: random(),
  team: random(),
  imported: random(),
  importedAnew: random(),
  importNoName: random(),
  ownKey: random(),
  ownKeyNext: random(),
  ownKeyCleared: random(),
  overHttp: random(),
  unbuilt: random(),
  fetchKey: random(),
  fetchKeyWrong: random(),
};
/** What was shown once: answers hold it, nothing that is kept does. */
const tokens: Record<string, string> = {};

let answers: Answers;
let commandLines: CommandLines;
let git: GitHost;
let sealport: Sealport;
let ada: Page;
let grace: Page;

test.describe.configure({ mode: "serial" });
test.setTimeout(600_000);

test.beforeAll(async ({ browser }) => {
  commandLines = new CommandLines();
  git = await GitHost.open(value.fetchKey);
  answers = await Answers.open();
  sealport = await Sealport.started({ ...answers.settings, ...git.settings, SEALPORT_DIR_ROOTS: FIXTURES, SEALPORT_LOG: "debug,sealport=trace" });
  answers.leadTo(sealport.port);
  [ada, grace] = [await (await browser.newContext()).newPage(), await (await browser.newContext()).newPage()];
  await welcome(ada, sealport, { ...ADMIN, password: value.password });
});

test.afterAll(async () => {
  commandLines?.end();
  answers?.close();
  await sealport?.remove();
  git?.close();
});

const secret = (path: string, owner = ADMIN.handle) => `${sealport.url}/secrets/${owner}/${path}`;

async function shownLink(what: string): Promise<string> {
  const shown = ada.getByRole("status").filter({ hasText: "Copy the link now. It cannot be shown again." });
  const link = (await shown.locator("code").innerText()).trim();
  tokens[what] = link.split("/").at(-1)!;
  return link;
}

test("passwords that are set by an invitation and by a reset link, and one that is asked for again", async () => {
  await ada.goto(`${sealport.url}/people`);
  await ada.getByLabel("E-mail").fill(GRACE.email);
  await ada.getByRole("button", { name: "Make an invitation" }).click();
  await grace.goto(await shownLink("invitation"));
  await grace.getByLabel("Password").evaluate((field) => field.removeAttribute("minlength"));
  for (const password of [value.invitedShort, value.invited]) {
    await grace.getByLabel("Password").fill(password);
    await grace.getByRole("button", { name: "Make the account and sign in" }).click();
    if (password === value.invitedShort) await expect(grace.getByLabel("Password")).toHaveAttribute("aria-invalid", "true");
  }
  await grace.waitForURL(/\/secrets$/);
  await ada.goto(`${sealport.url}/people`);
  const row = ada.getByRole("region", { name: "Everyone" }).getByRole("listitem").filter({ hasText: GRACE.email });
  await row.locator("summary").click();
  await row.getByRole("button", { name: "Make a reset link" }).click();
  await grace.goto(await shownLink("reset"));
  await grace.getByLabel("Password").fill(value.reset);
  await grace.getByRole("button", { name: "Set the password and sign in" }).click();
  await grace.waitForURL(/\/secrets$/);
  await ada.goto(`${sealport.url}/confirm?next=%2Fpeople`);
  for (const password of [value.confirmedWrong, value.password]) {
    await ada.getByLabel("Password", { exact: true }).fill(password);
    await ada.getByRole("button", { name: "Go on" }).click();
    if (password === value.confirmedWrong) await expect(ada.getByText("That is not your password.")).toBeVisible();
  }
  await expect(ada).toHaveURL(/\/people$/);
});

test("a secret is rolled back, loses a version, and moves to a team", async () => {
  await ada.goto(`${sealport.url}/people`);
  await ada.getByLabel("New team").fill("platform");
  await ada.getByRole("button", { name: "Make a team" }).click();
  await expect(ada.getByRole("heading", { name: "platform", exact: true })).toBeVisible();
  await addSecret(ada, sealport, { path: CONTROL, value: value.first, description: CONTROL });
  for (const next of [value.destroyed, value.third]) await replace(ada, next);
  await ada.getByRole("button", { name: "Roll back to version 1" }).click();
  await expect(ada.getByRole("status")).toContainText("Version 4 has the value of version 1.");
  await compare(ada, value.first, "The same:");
  await ada.goto(`${secret(CONTROL)}?open=destroy-version&version=2`);
  await ada.getByLabel("Type 2 to confirm").fill("2");
  await ada.getByRole("button", { name: "Destroy this version" }).click();
  await expect(ada.getByRole("status")).toContainText("Version 2 is destroyed.");
  await ada.getByRole("link", { name: "Move to another owner" }).click();
  await ada.getByLabel("New owner").selectOption("platform");
  await ada.getByRole("button", { name: "Show what changes" }).click();
  await ada.getByRole("button", { name: "Move it to platform" }).click();
  await expect(ada.getByRole("status")).toContainText(`${CONTROL} is platform’s now.`);
  await ada.goto(secret(CONTROL, "platform"));
  await ada.getByRole("button", { name: "Roll back to version 3" }).click();
  await expect(ada.getByRole("status")).toContainText("Version 5 has the value of version 3.");
  await ada.goto(`${sealport.url}/secrets/new`);
  await ada.getByLabel("Path").fill("TEAM_KEY");
  await ada.getByLabel("Whose it is").selectOption("platform");
  await ada.getByLabel("Value").fill(value.team);
  await ada.getByRole("button", { name: "Seal and add" }).click();
  await expect(ada).toHaveURL(secret("TEAM_KEY", "platform"));
});

test("a file of variables is chosen, decided and taken in", async () => {
  await addSecret(ada, sealport, { path: "IMPORTED_ANEW", value: value.unbuilt });
  await ada.goto(`${sealport.url}/secrets/import`);
  const file = `# ${CONTROL}\nexport IMPORTED='${value.imported}'\nIMPORTED_ANEW="${value.importedAnew}"\n${value.importNoName}\nOPEN="${value.importNoName}`;
  await ada.getByLabel(/^Or choose a file/).setInputFiles({ name: `${CONTROL}.env`, mimeType: "text/plain", buffer: Buffer.from(file) });
  await ada.getByRole("button", { name: "Look at it" }).click();
  await ada.getByRole("link", { name: "Tick all that differ" }).click();
  await ada.getByRole("button", { name: "Import what is ticked" }).click();
  await expect(ada.getByRole("status")).toContainText("1 added, 1 replaced.");
});

test("a source that is fetched with its key, and one whose host refuses the key", async () => {
  const private_ = { kind: "Git repository over https", folder: "server" } as const;
  const source = git.repository("private-tools", "main", "server", ECHO.source);
  for (const [path, key] of [["FETCH_KEY", value.fetchKey], ["FETCH_KEY_WRONG", value.fetchKeyWrong]] as const) {
    await addSecret(ada, sealport, { path, value: key });
  }
  await deploy(ada, sealport, { ...private_, source, fetchKey: "FETCH_KEY", plain: { [CONTROL]: CONTROL }, name: "from-git" });
  await reaches(ada, "Running");
  const refused = inspect(ada, sealport, { ...private_, source: source.replace("private-tools", "private-others"), fetchKey: "FETCH_KEY_WRONG", name: "refused" });
  await expect(refused).rejects.toThrow("Go on to secrets");
  await expect(ada.getByText("The source could not be looked at")).toBeVisible();
});

test("a server that gives its value away over HTTP, and a build that fails with many words", async () => {
  await addSecret(ada, sealport, { path: "OVER_HTTP", value: value.overHttp });
  const http: Wanted = { ...ECHO, command: "node server.mjs --http", transport: "HTTP", secrets: { OVER_HTTP: "OVER_HTTP" }, plain: { [CONTROL]: CONTROL }, name: "over-http" };
  await deploy(ada, sealport, http);
  await reaches(ada, "Running");
  const gateway = await connect(ada);
  tokens.overHttp = gateway.token;
  for (const tool of ["get-env", "fail", "--list"]) {
    const said = await callByNode(gateway.url, gateway.token, tool).then(JSON.stringify, String);
    expect(said).toContain("[sealed]");
    answers.add(`the tool ${tool} over HTTP`, said);
  }
  const failing: Wanted = { kind: "Directory of this machine", source: join(FIXTURES, "unbuildable"), secrets: { IMPORTED_ANEW: "IMPORTED_ANEW" }, name: "unbuildable" };
  await inspect(ada, sealport, failing);
  await bind(ada, failing);
  await ada.getByRole("button", { name: "Deploy", exact: true }).click();
  await ada.waitForURL(/\/deployments\/unbuildable$/);
  await reaches(ada, "Failed");
  await expect(ada.locator("[data-log]")).toContainText(CONTROL);
});

test("a server that takes the private key out of a service account's JSON and prints it", async () => {
  await addSecret(ada, sealport, { path: "GOOGLE_SERVICE_ACCOUNT", value: account.text, kind: "JSON" });
  const google: Wanted = { ...ECHO, secrets: { GOOGLE_SERVICE_ACCOUNT: "GOOGLE_SERVICE_ACCOUNT" }, plain: { [CONTROL]: CONTROL }, name: "google" };
  await deploy(ada, sealport, google);
  await reaches(ada, "Running");
  const gateway = await connect(ada);
  tokens.google = gateway.token;
  for (const tool of ["get-env", "fail", "--list"]) {
    const said = await callByNode(gateway.url, gateway.token, tool).then(JSON.stringify, String);
    expect(said).toContain("[sealed]");
    answers.add(`the tool ${tool} with a service account`, said);
  }
  await ada.goto(`${sealport.url}/deployments/google`);
  await expect(ada.locator("[data-log]")).toContainText("[sealed]");
});

test("a caller's own key is refused, connected, used, replaced and cleared", async () => {
  const own: Wanted = { ...ECHO, brought: [OWN_KEY], plain: { [CONTROL]: CONTROL }, name: "own-keys" };
  await deploy(ada, sealport, own);
  await reaches(ada, "Running");
  await ada.goto(`${sealport.url}/share/deployment/${own.name}`);
  await ada.getByLabel("With whom").fill(GRACE.handle);
  await ada.getByRole("radio", { name: /^use:/ }).check();
  await ada.getByRole("button", { name: "Share", exact: true }).click();
  await grace.goto(`${sealport.url}/deployments/${own.name}`);
  const gateway = await connect(grace);
  tokens.ownKeys = gateway.token;
  const slot = grace.getByRole("region", { name: OWN_KEY, exact: true });
  const gives = async (text: string) => {
    await grace.goto(`${sealport.url}/connect/${own.name}`);
    await slot.locator("textarea").fill(text);
    await slot.getByRole("button", { name: /^(Connect|Replace)/ }).first().click();
  };
  await gives(value.ownKeyCleared + "x".repeat(65_536));
  await expect(slot.locator("textarea")).toHaveAttribute("aria-invalid", "true");
  for (const key of [value.ownKey, value.ownKeyNext]) {
    await gives(key);
    await expect(grace.getByRole("status").filter({ hasText: OWN_KEY })).toContainText("is sealed and connected.");
    for (const tool of ["get-env", "fail", "--list"]) {
      const said = await callByNode(gateway.url, gateway.token, tool).then(JSON.stringify, String);
      expect(said).toContain("[sealed]");
      expect(said).toContain(CONTROL);
      answers.add(`the tool ${tool} with a key of one's own`, said);
    }
  }
  await grace.goto(`${sealport.url}/connect/${own.name}`);
  await expect(grace.getByRole("region", { name: "Your instance" })).toContainText(`${OWN_KEY}=[sealed]`);
  const clear = slot.locator("details");
  await clear.locator("summary").click();
  await clear.getByLabel(`Type ${OWN_KEY} to go on`).fill(value.ownKeyCleared);
  await clear.getByRole("button", { name: /^Clear/ }).click();
  await expect(clear.getByText(`Type ${OWN_KEY} to clear it.`)).toBeVisible();
});

test("all keys are changed, and everything opens after it", async () => {
  await sealport.stop();
  appendFileSync(join(sealport.data, "master.key"), `\n${execFileSync(PROGRAM, ["key", "new"], { encoding: "utf8" })}`);
  await sealport.start();
  for (const which of [["--data-keys"], []]) answers.add("what rotating says", await sealport.command(["key", "rotate", ...which]));
  await ada.goto(secret(CONTROL, "platform"));
  await compare(ada, value.third, "The same:");
  await ada.goto(`${sealport.url}/deployments/over-http`);
  await reaches(ada, "Running");
});

test("nothing that was written meanwhile holds 8 characters of a value", async () => {
  const cookie = (await ada.context().cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
  for (const name of ["over-http", "unbuildable", "from-git"]) await readEvents(`${sealport.url}/deployments/${name}`, cookie);
  for (const [page, paths] of [
    [ada, ["/secrets", "/activity", "/people", "/people/grace", "/teams/platform", "/settings", "/deployments", "/deployments/own-keys", "/secrets/platform/TEAM_KEY"]],
    [grace, ["/secrets", "/activity", "/tokens", "/connect/own-keys", `/secrets/grace/service/own-keys/${OWN_KEY}`]],
  ] as const) {
    for (const path of paths) await page.goto(`${sealport.url}${path}`);
  }
  await nothingHolds(value, { sealport, answers, commandLines, tokens });
  await sealport.stop();
  await nothingInFiles({ ...value, ...tokens }, sealport);
});
