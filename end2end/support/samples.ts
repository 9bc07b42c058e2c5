// A Sealport with something on every page, for what looks at all of them.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { expect, type Page } from "@playwright/test";

import { ROOT, type Sealport } from "./sealport.ts";
import { addSecret, deploy, inspect, openFolding, reaches, welcome } from "./steps.ts";

export type SamplePage = {
  name: string;
  path: string;
  signedIn: boolean;
  /** What has to be pressed so that all of it shows. */
  prepare?: (page: Page) => Promise<void>;
  /** Its picture is not cut. */
  whole?: boolean;
};

let draft = "";
let shared = "";

/** Fills it with samples; returns the cookies of who is signed in. */
export async function withSamples(page: Page, sealport: Sealport) {
  await welcome(page, sealport);
  // Some kinds are looked at before they are sealed.
  const values: Record<string, string> = {
    "Database URL": "postgres://shop:a-sample-password@db.example.org/shop",
    "JWT secret": "a sample value that is long enough to sign with",
    Certificate: readFileSync(join(ROOT, "tests/fixtures/certificate.pem"), "utf8"),
    JSON: `{"type": "service_account"}`,
  };
  for (const [path, kind, description] of [
    ["OPENAI_API_KEY", "API key", "Everyone's, paid by the platform team"],
    ["project/shop/STRIPE_KEY", "API key", ""],
    ["project/shop/DATABASE_URL", "Database URL", "The shop's primary"],
    ["project/shop/SESSION_KEY", "JWT secret", ""],
    ["service/gitlab/GITLAB_PERSONAL_ACCESS_TOKEN", "API key", "Read only, of the robot account"],
    ["service/web/TLS_KEY", "Certificate", "Renewed every spring"],
    ["meta/claude/GOOGLE_SERVICE_ACCOUNT", "JSON", ""],
  ] as const) {
    await addSecret(page, sealport, { path, kind, description, value: values[kind] ?? `a sample value for ${path}` });
  }
  await sealport.addUser("bob@example.org", "bob has another passphrase");
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
  shared = (await page.getByRole("link", { name: "Share", exact: true }).getAttribute("href")) ?? "";
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
  // One that is on its way: it misses a secret.
  await inspect(page, sealport, { kind: "npm package", source: "@modelcontextprotocol/server-slack", name: "slack" });
  draft = /deploy\/([0-9a-f-]+)\//.exec(page.url())?.[1] ?? "";
  return page.context().cookies();
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
    ["secret-delete", "/secrets/ada/OPENAI_API_KEY", open("Delete")],
    ["deploy", "/deploy"],
    ["deploy-source", `/deploy/${draft}/source`],
    ["deploy-secrets", `/deploy/${draft}/secrets`],
    ["deploy-target", `/deploy/${draft}/target`],
    ["deploy-review", `/deploy/${draft}/review`],
    ["deployments", "/deployments"],
    ["deployment", "/deployments/everything"],
    ["deployment-failed", "/deployments/brave-search"],
    ["activity", "/activity"],
    ["tokens", "/tokens"],
    ["people", "/people"],
    ["person", "/people/bob"],
    ["team", "/teams/platform"],
    ["share-secret", shared],
    ["share-folder", "/share/folder/ada/project/shop"],
    ["share-deployment", "/share/deployment/everything"],
    ["settings", "/settings"],
    ["not-found", "/nothing-here"],
  ];
  return [
    { name: "sign-in", path: "/sign-in", signedIn: false },
    { name: "welcome", path: new URL(sealport.welcome).pathname, signedIn: false },
    ...inside.map(([name, path, prepare]) => ({ name, path, signedIn: true, prepare, whole: name === "settings" })),
  ];
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
