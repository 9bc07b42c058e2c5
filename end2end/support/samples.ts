// A Sealport with something on every page, for what looks at all of them.

import { cpSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { expect, type Page } from "@playwright/test";

import { callByNode } from "./clients.ts";
import { Providers } from "./providers.ts";
import { ROOT, Sealport } from "./sealport.ts";
import { serviceAccount } from "./service-account.ts";
import { addSecret, bind, connect, deploy, inspect, openFolding, reaches, signIn, type Wanted, welcome } from "./steps.ts";

export type SamplePage = {
  name: string;
  path: string;
  signedIn: boolean;
  /** What has to be pressed so that all of it shows. */
  prepare?: (page: Page) => Promise<void>;
  /** Its picture is not cut. */
  whole?: boolean;
};

/** Addresses that are known once the samples are there. */
const at = { draft: "", draftMissing: "", draftThere: "", share: "", move: "", invitation: "", reset: "" };

const KEYS = { render: "a sample key of Render", railway: "a sample key of Railway" };

/** A Sealport, and providers that it deploys to. */
export class Installation {
  private constructor(
    readonly sealport: Sealport,
    readonly providers: Providers,
  ) {}

  static async started(): Promise<Installation> {
    const providers = await Providers.started(KEYS, join(ROOT, "tests/fixtures/bridged-server.mjs"));
    try {
      const sealport = new Sealport();
      const own = join(sealport.dir, "sources/shop-orders");
      mkdirSync(own, { recursive: true });
      cpSync(join(ROOT, "tests/fixtures/own-server.mjs"), join(own, "server.mjs"));
      try {
        await sealport.start({ ...providers.settings, SEALPORT_DIR_ROOTS: join(sealport.dir, "sources") });
      } catch (error) {
        await sealport.remove();
        throw error;
      }
      return new Installation(sealport, providers);
    } catch (error) {
      providers.close();
      throw error;
    }
  }

  async remove(): Promise<void> {
    await this.sealport.remove();
    this.providers.close();
  }
}

/** Fills it with samples; returns the cookies of who is signed in. */
export async function withSamples(page: Page, sealport: Sealport) {
  await welcome(page, sealport);
  // Some kinds are looked at before they are sealed.
  const values: Record<string, string> = {
    "Database URL": "postgres://shop:a-sample-password@db.example.org/shop",
    "JWT secret": "a sample value that is long enough to sign with",
    Certificate: readFileSync(join(ROOT, "tests/fixtures/certificate.pem"), "utf8"),
    JSON: serviceAccount().text,
  };
  for (const [provider, value] of Object.entries(KEYS)) {
    await addSecret(page, sealport, { path: `meta/${provider}/api_key`, value, kind: "API key" });
  }
  for (const [path, kind, description] of [
    ["OPENAI_API_KEY", "API key", "Everyone's, paid by the platform team"],
    ["project/shop/STRIPE_KEY", "API key", ""],
    ["project/shop/DATABASE_URL", "Database URL", "The shop's primary"],
    ["project/shop/SESSION_KEY", "JWT secret", ""],
    ["service/gitlab/GITLAB_PERSONAL_ACCESS_TOKEN", "API key", "Read only, of the robot account"],
    ["service/web/TLS_KEY", "Certificate", "Renewed every spring"],
    ["service/slack/SLACK_BOT_TOKEN", "API key", "Of the shop's workspace"],
    ["service/slack/SLACK_TEAM_ID", "Custom", ""],
    ["meta/claude/GOOGLE_SERVICE_ACCOUNT", "JSON", ""],
  ] as const) {
    await addSecret(page, sealport, { path, kind, description, value: values[kind] ?? `a sample value for ${path}` });
  }
  await sealport.addUser("bob@example.org", "bob has another passphrase");
  await page.goto(`${sealport.url}/people`);
  await linksAndToken(page, sealport);
  await page.goto(`${sealport.url}/people`);
  await page.getByLabel("New team").fill("platform");
  await page.getByRole("button", { name: "Make a team" }).click();
  await page.getByLabel("Add a member").fill("bob");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  for (const [withWhom, level] of [["platform", "read"], ["bob", "use"]] as const) {
    await page.goto(`${sealport.url}/share/folder/ada/project/shop`);
    await page.getByLabel("With whom").fill(withWhom);
    await page.getByRole("radio", { name: new RegExp(`^${level}:`) }).check();
    await page.getByRole("button", { name: "Share", exact: true }).click();
    await expect(page.getByText(`${withWhom} has ${level} from now on.`)).toBeVisible();
  }
  await page.goto(`${sealport.url}/secrets/ada/project/shop/STRIPE_KEY`);
  at.share = (await page.getByRole("link", { name: "Share", exact: true }).getAttribute("href")) ?? "";
  at.move = `${await page.getByRole("link", { name: "Move to another owner" }).getAttribute("href")}?to=platform`;
  await page.goto(`${sealport.url}/secrets/ada/OPENAI_API_KEY`);
  await openFolding(page, "Replace the value");
  await page.getByLabel("New value").fill("another sample value");
  await page.getByRole("button", { name: "Seal and replace" }).click();
  await expect(page.getByText("Sealed, version 2")).toBeVisible();
  // Something is due, tagged, and kept by a folder's rule.
  await page.goto(`${sealport.url}/secrets/ada/service/gitlab/GITLAB_PERSONAL_ACCESS_TOKEN`);
  await openFolding(page, "Edit details");
  await page.getByLabel(/^Expires on/).fill(new Date(Date.now() + 5 * 86_400_000).toISOString().slice(0, 10));
  await page.getByLabel(/^Tags/).fill("robot read-only");
  await page.getByRole("button", { name: "Save", exact: true }).first().click();
  await expect(page.getByRole("status")).toContainText("Saved.");
  const everything = {
    kind: "npm package",
    source: "@modelcontextprotocol/server-everything",
    secrets: { OPENAI_API_KEY: "OPENAI_API_KEY", STRIPE_KEY: "project/shop/STRIPE_KEY" },
    plain: { GREETING: "hello there" },
    name: "everything",
  } as const;
  await deploy(page, sealport, everything);
  await reaches(page, "Running");
  await deploy(page, sealport, { kind: "npm package", source: "@brave/brave-search-mcp-server", name: "brave-search" });
  await reaches(page, "Failed");
  const there = {
    kind: "Container image, for a provider",
    source: "ghcr.io/acme/shop-search:2.3",
    secrets: { OPENAI_API_KEY: "OPENAI_API_KEY", DATABASE_URL: "project/shop/DATABASE_URL" },
    plain: { REGION: "eu" },
  } as const;
  await deploy(page, sealport, { ...there, target: { title: "Render", options: { Region: "frankfurt" } }, name: "shop-search" });
  await reaches(page, "Running");
  await perUser(page, sealport);
  await drafts(page, sealport, there);
  return page.context().cookies();
}

/** What is shown once: links that are open, and a token of the API. */
async function linksAndToken(page: Page, sealport: Sealport): Promise<void> {
  const shownLink = async () => {
    const link = await page.getByRole("status").filter({ hasText: "Copy the link now." }).locator("code").innerText();
    return new URL(link.trim()).pathname;
  };
  await page.getByLabel("E-mail").fill("grace@example.org");
  await page.getByRole("button", { name: "Make an invitation" }).click();
  at.invitation = await shownLink();
  await page.goto(`${sealport.url}/people`);
  const bobs = page.getByRole("region", { name: "Everyone" }).getByRole("listitem").filter({ hasText: "bob@example.org" });
  await bobs.locator("summary").click();
  await bobs.getByRole("button", { name: "Make a reset link" }).click();
  at.reset = await shownLink();
  await page.goto(`${sealport.url}/tokens`);
  await openFolding(page, "Make a token of the API");
  await page.getByLabel("What it is for").fill("CI of the shop");
  await page.getByLabel(/^Only paths under/).fill("project/shop");
  await page.getByRole("button", { name: "Make the token" }).click();
  await expect(page.getByText("Copy the token now. It cannot be shown again.")).toBeVisible();
}

/** Three that are on their way: one is complete, one misses a key, and one is ready to go to a provider. */
async function drafts(page: Page, sealport: Sealport, there: Omit<Wanted, "name">): Promise<void> {
  const ofPage = () => /deploy\/([0-9a-f-]+)\//.exec(page.url())?.[1] ?? "";
  const names = ["SLACK_BOT_TOKEN", "SLACK_TEAM_ID"];
  const secrets = Object.fromEntries(names.map((name) => [name, `service/slack/${name}`]));
  const slack: Wanted = { kind: "npm package", source: "@modelcontextprotocol/server-slack", secrets, name: "slack" };
  await inspect(page, sealport, slack);
  await bind(page, slack);
  at.draft = ofPage();
  await inspect(page, sealport, { kind: "npm package", source: "@brave/brave-search-mcp-server", name: "brave" });
  at.draftMissing = ofPage();
  const next: Wanted = { ...there, target: { title: "Railway" }, name: "shop-search-next" };
  await inspect(page, sealport, next);
  await bind(page, next);
  at.draftThere = ofPage();
}

/** One that callers bring keys to: those of one expire soon, and those of the other were refused. */
async function perUser(page: Page, sealport: Sealport): Promise<void> {
  const wanted = {
    kind: "Directory of this machine",
    source: join(sealport.dir, "sources/shop-orders"),
    command: "node server.mjs",
    brought: ["SHOP_KEY"],
    name: "shop-orders",
  } as const;
  await deploy(page, sealport, wanted);
  await reaches(page, "Running");
  const { url, token } = await connect(page, "Claude Code on my laptop");
  await page.goto(`${sealport.url}/share/deployment/${wanted.name}`);
  await page.getByLabel("With whom").fill("bob");
  await page.getByRole("radio", { name: /^use:/ }).check();
  await page.getByRole("button", { name: "Share", exact: true }).click();
  await expect(page.getByText("bob has use from now on.")).toBeVisible();

  const context = await page.context().browser()?.newContext();
  if (!context) throw new Error("There is no browser for a second person.");
  const bobs = await context.newPage();
  await signIn(bobs, sealport, { email: "bob@example.org", password: "bob has another passphrase" });
  for (const one of [page, bobs]) {
    await one.goto(`${sealport.url}/connect/${wanted.name}`);
    await one.getByLabel("Value").fill("a sample key of the shop");
    await one.getByRole("button", { name: /^Connect/ }).click();
    await expect(one.getByRole("status").filter({ hasText: "SHOP_KEY is sealed and connected." })).toBeVisible();
  }
  await bobs.goto(`${sealport.url}/secrets/bob/service/${wanted.name}/SHOP_KEY`);
  await openFolding(bobs, "Edit details");
  await bobs.getByLabel(/^Expires on/).fill(new Date(Date.now() + 5 * 86_400_000).toISOString().slice(0, 10));
  await bobs.getByRole("button", { name: "Save", exact: true }).first().click();
  await expect(bobs.getByRole("status")).toContainText("Saved.");
  await context.close();

  await callByNode(url, token, "fail", { says: "Request failed with status code 401" });
  await expect(async () => {
    await page.goto(`${sealport.url}/connect/${wanted.name}`);
    await expect(page.getByText("The far service refused your keys", { exact: false }).first()).toBeVisible({ timeout: 500 });
  }).toPass({ timeout: 30_000 });
}

export function samplePages(sealport: Sealport): SamplePage[] {
  const open = (title: string) => (page: Page) => openFolding(page, title);
  const inside: [string, string, ((page: Page) => Promise<void>)?][] = [
    ["secrets", "/secrets"],
    ["secrets-list", "/secrets?kind=api_key&sort=path"],
    ["secrets-folder", "/secrets?owner=ada&under=project/shop", open("Rotation of what is in this folder")],
    ["secret-new", "/secrets/new"],
    ["secret-import", "/secrets/import", startOver],
    ["secret-import-decide", "/secrets/import", decide],
    ["secret", "/secrets/ada/OPENAI_API_KEY"],
    ["secret-replace", "/secrets/ada/OPENAI_API_KEY", open("Replace the value")],
    ["secret-details", "/secrets/ada/service/gitlab/GITLAB_PERSONAL_ACCESS_TOKEN", open("Edit details")],
    ["secret-rotation", "/secrets/ada/OPENAI_API_KEY", open("Rotation")],
    ["secret-destroy-version", "/secrets/ada/OPENAI_API_KEY?open=destroy-version&version=1"],
    ["secret-move", at.move],
    ["secret-delete", "/secrets/ada/OPENAI_API_KEY", open("Delete")],
    ["deploy", "/deploy"],
    ["deploy-source", `/deploy/${at.draft}/source`],
    ["deploy-secrets", `/deploy/${at.draft}/secrets`],
    ["deploy-secrets-missing", `/deploy/${at.draftMissing}/secrets`],
    ["deploy-target", `/deploy/${at.draft}/target`],
    ["deploy-review", `/deploy/${at.draft}/review`],
    ["deploy-target-there", `/deploy/${at.draftThere}/target`],
    ["deploy-review-there", `/deploy/${at.draftThere}/review`],
    ["deployments", "/deployments"],
    ["deployment", "/deployments/everything"],
    ["deployment-failed", "/deployments/brave-search"],
    ["deployment-per-user", "/deployments/shop-orders"],
    ["connect-keys", "/connect/shop-orders"],
    ["deployment-there", "/deployments/shop-search"],
    ["activity", "/activity"],
    ["tokens", "/tokens"],
    ["people", "/people"],
    ["person", "/people/bob"],
    ["person-end", "/people/bob/end"],
    ["team", "/teams/platform"],
    ["share-secret", at.share],
    ["share-folder", "/share/folder/ada/project/shop"],
    ["share-deployment", "/share/deployment/everything"],
    ["confirm", "/confirm?next=%2Fpeople"],
    ["settings", "/settings"],
    ["settings-render", "/settings/render"],
    ["settings-railway", "/settings/railway", checkMissingKey],
    ["not-found", "/nothing-here"],
  ];
  return [
    { name: "sign-in", path: "/sign-in", signedIn: false },
    { name: "welcome", path: new URL(sealport.welcome).pathname, signedIn: false },
    { name: "invitation", path: at.invitation, signedIn: false },
    { name: "reset", path: at.reset, signedIn: false },
    { name: "link-opens-nothing", path: "/reset/of-no-link", signedIn: false },
    { name: "api", path: "/api/docs", signedIn: false },
    { name: "problem", path: "/problems/not-found", signedIn: false },
    ...inside.map(([name, path, prepare]) => ({ name, path, signedIn: true, prepare, whole: name === "settings" })),
  ];
}

/** Addresses at which another's page stands. */
const ALIASES = ["/", "/api"];

/** What the dashboard's router and the doors have of pages, as they say it: `/people/:handle`. */
export function routedPages(): string[] {
  const source = (file: string) => readFileSync(join(ROOT, "src", file), "utf8");
  const found = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, path]) => path!);
  const pages = found(source("app/mod.rs"), /path!\("([^"]*)"\)/g);
  const references = found(source("doors/mod.rs"), /\.route\(\s*"([^"]+)",\s*get\(rest::reference::/g);
  return [...pages, ...references.map((path) => path.replaceAll(/\{(\w+)\}/g, ":$1"))].filter((path) => !ALIASES.includes(path));
}

/** Of several pages that fit, the one that says most in its own words is shown: `/secrets/new` before `/secrets/:handle/*path`. */
export function routedPage(path: string, pages: string[]): string | undefined {
  const pattern = (page: string) => new RegExp(`^${page.replaceAll(/\/:\w+/g, "/[^/]+").replaceAll(/\/\*\w+/g, "/.+")}$`);
  const variables = (page: string) => page.split(/[:*]/).length;
  return pages.filter((page) => pattern(page).test(path.replace(/\?.*/, ""))).sort((a, b) => variables(a) - variables(b))[0];
}

/** The islands of a page have come to life: what waits for them shows. */
export async function alive(page: Page): Promise<void> {
  const asleep = `document.querySelectorAll("leptos-island > button[hidden], [data-follow]:has([data-log]) leptos-island > div[hidden]").length`;
  await expect.poll(() => page.evaluate(asleep)).toBe(0);
  // Once more drawn, with all that the last of them changed.
  await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
}

/** What is said when there is no such key. */
async function checkMissingKey(page: Page): Promise<void> {
  await page.getByLabel("Path of another secret").fill("meta/railway/missing");
  await page.getByRole("button", { name: "Check", exact: true }).click();
  await expect(page.getByRole("main").getByRole("alert").last()).toContainText("There is no secret here");
}

/** Where a file waits since an earlier visit, its form does not show. */
async function startOver(page: Page): Promise<void> {
  const button = page.getByRole("button", { name: "Start over" });
  if (await button.isVisible()) await button.click();
  await expect(page.getByLabel(/^Paste the variables/)).toBeVisible();
}

/** A line of each sort. */
async function decide(page: Page): Promise<void> {
  await startOver(page);
  await page.getByLabel(/^Under/).fill("project/shop/");
  const lines = [
    "STRIPE_KEY=a sample value for project/shop/STRIPE_KEY",
    "SESSION_KEY=another sample value",
    "SEARCH_KEY='a sample value of ${REGION}'",
    "SEARCH_URL=https://search.example.org/#main",
    "CACHE_KEY=the first of two",
    "CACHE_KEY=the second of two",
    "a line without a name",
  ];
  await page.getByLabel(/^Paste the variables/).fill(lines.join("\n"));
  await page.getByRole("button", { name: "Look at it" }).click();
  await expect(page.getByRole("button", { name: "Import what is ticked" })).toBeVisible();
}

export const SHOTS = join(ROOT, "docs/screenshots");
