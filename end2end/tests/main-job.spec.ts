// The whole main job, with and without JavaScript: an empty machine, the first administrator, a secret, a real
// server from npm that is deployed with it and uses it, and the end of that server.

import { expect, test } from "@playwright/test";

import { callByNode, textOf } from "../support/clients.ts";
import { Listener } from "../support/listener.ts";
import { Sealport } from "../support/sealport.ts";
import { act, addSecret, bind, canary, connect, destroy, inspect, reaches, state, type Wanted, welcome } from "../support/steps.ts";

test("a secret is stored, a server is deployed with it, and it is seen used", async ({ page }) => {
  test.setTimeout(900_000);
  const gitlab = await Listener.open([]);
  const sealport = await Sealport.started({ SEALPORT_SOURCE_HOSTS: "127.0.0.1" });
  try {
    const token = canary();
    const wanted: Wanted = {
      kind: "npm package",
      source: "@modelcontextprotocol/server-gitlab",
      secrets: { GITLAB_PERSONAL_ACCESS_TOKEN: "service/gitlab/GITLAB_PERSONAL_ACCESS_TOKEN" },
      plain: { GITLAB_API_URL: `${gitlab.urlForGuests}/api/v4` },
      name: "our-gitlab",
    };

    await test.step("the first administrator comes in by the link, which burns", async () => {
      await welcome(page, sealport);
      await page.goto(sealport.welcome);
      await expect(page.getByRole("main")).not.toContainText("Something went wrong");
    });

    await test.step("a secret is stored", async () => {
      await addSecret(page, sealport, { path: "service/gitlab/GITLAB_PERSONAL_ACCESS_TOKEN", value: token });
      await expect(page.locator("body")).not.toContainText(token);
    });

    await test.step("the wizard says what the source wants, and ticks it", async () => {
      await inspect(page, sealport, wanted);
      await expect(page.getByRole("rowheader", { name: "GITLAB_PERSONAL_ACCESS_TOKEN" })).toBeVisible();
      await expect(page.getByRole("rowheader", { name: "GITLAB_API_URL" })).toBeVisible();
      await page.getByRole("button", { name: "Go on to secrets" }).click();
      await expect(page.getByLabel("service/gitlab/GITLAB_PERSONAL_ACCESS_TOKEN", { exact: true })).toBeChecked();
      await page.goBack();
      await bind(page, wanted);
      const review = page.getByRole("region", { name: "What the server gets" });
      await expect(review).toContainText("GITLAB_PERSONAL_ACCESS_TOKEN");
      await expect(review).toContainText("GITLAB_API_URL");
      await expect(page.locator("body")).not.toContainText(token);
    });

    await test.step("it is deployed and runs", async () => {
      await page.getByRole("button", { name: "Deploy", exact: true }).click();
      await page.waitForURL(/\/deployments\/our-gitlab$/);
      await reaches(page, "Running");
      const release = page.getByRole("main");
      for (const name of ["Fetch", "Install", "Start", "Handshake"]) {
        await expect(release.getByRole("listitem").filter({ hasText: name }).first()).toContainText("done");
      }
      await expect(page.getByRole("rowheader", { name: "GITLAB_API_URL" })).toBeVisible();
    });

    const gateway = await connect(page);

    await test.step("a client calls it, and the token arrives where it belongs", async () => {
      expect(gitlab.requests).toEqual([]);
      const result = await callByNode(gateway.url, gateway.token, "search_repositories", { search: "sealport" });
      expect(result.isError ?? false, textOf(result)).toBe(false);
      expect(gitlab.requests).toHaveLength(1);
      expect(gitlab.requests[0]?.path).toMatch(/^\/api\/v4\/.*search=sealport/);
      expect(gitlab.requests[0]?.headers.authorization).toBe(`Bearer ${token}`);
    });

    await test.step("a token opens this gateway alone, and only whole", async () => {
      const other = gateway.token.endsWith("x") ? "y" : "x";
      await expect(callByNode(gateway.url, `${gateway.token.slice(0, -1)}${other}`, "--list")).rejects.toThrow("Send a gateway token of this deployment");
      await expect(callByNode(gateway.url.replace("our-gitlab", "another"), gateway.token, "--list")).rejects.toThrow("Send a gateway token of this deployment");
    });

    await test.step("neither the page nor its log shows the value, and the token is not shown twice", async () => {
      await page.goto(`${sealport.url}/deployments/our-gitlab`);
      expect(await page.content()).not.toContain(token);
      expect(await page.content()).not.toContain(gateway.token);
      expect(sealport.said).not.toContain(token);
      expect(sealport.said).not.toContain(gateway.token);
    });

    await test.step("the record says that it was used, for what and at which version", async () => {
      await page.goto(`${sealport.url}/activity`);
      const used = page.getByRole("listitem").filter({ hasText: /used .*GITLAB_PERSONAL_ACCESS_TOKEN/ });
      await expect(used).toHaveCount(1);
      await expect(used).toContainText(/version 1 for its release 1/);
      await page.goto(`${sealport.url}/deployments/our-gitlab`);
    });

    await test.step("stop, start, redeploy", async () => {
      await act(page, "Stop");
      await reaches(page, "Stopped");
      await expect(callByNode(gateway.url, gateway.token, "--list")).rejects.toThrow("This server is not running now.");
      await act(page, "Start");
      await reaches(page, "Running");
      await callByNode(gateway.url, gateway.token, "search_repositories", { search: "again" });
      expect(gitlab.requests.at(-1)?.headers.authorization).toBe(`Bearer ${token}`);
      // A start is a release of its own, of what is installed already.
      await expect(page.getByRole("heading", { name: "Release 2" })).toBeVisible();
      await act(page, "Redeploy");
      await expect(page.getByRole("heading", { name: "Release 3" })).toBeVisible();
      await reaches(page, "Running");
      await callByNode(gateway.url, gateway.token, "search_repositories", { search: "once more" });
      expect(gitlab.requests.at(-1)?.path).toMatch(/once/);
    });

    await test.step("destroyed by its typed name, and not by another", async () => {
      await page.locator("#destroy summary").click();
      await page.getByLabel("Type our-gitlab to go on").fill("our-gitlap");
      await page.getByRole("button", { name: "Destroy", exact: true }).click();
      await page.waitForURL(/\/deployments\/our-gitlab/);
      await expect(state(page)).toContainText("Running");
      await destroy(page, "our-gitlab");
      await expect(page.getByRole("main")).not.toContainText("server-gitlab");
      await expect(callByNode(gateway.url, gateway.token, "--list")).rejects.toThrow("Send a gateway token of this deployment");
    });
  } finally {
    gitlab.close();
    await sealport.remove();
  }
});
