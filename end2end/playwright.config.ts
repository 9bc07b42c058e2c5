import { defineConfig } from "@playwright/test";

/** Debian's Chromium, unless told otherwise; Playwright's own is not downloaded. */
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";

export default defineConfig({
  testDir: "tests",
  outputDir: "out/results",
  // One server a worker; the machine of a test run is small.
  workers: 1,
  fullyParallel: false,
  timeout: 240_000,
  expect: { timeout: 30_000 },
  reporter: [["list"]],
  use: {
    headless: true,
    // A step that waits for what never comes ends long before its test does.
    actionTimeout: 30_000,
    navigationTimeout: 60_000,
    viewport: { width: 1280, height: 900 },
    launchOptions: {
      executablePath,
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
  projects: [
    { name: "with JavaScript", use: { javaScriptEnabled: true } },
    {
      name: "without JavaScript",
      use: { javaScriptEnabled: false },
      testMatch: [
        "activity.spec.ts",
        "import.spec.ts",
        "main-job.spec.ts",
        "mending.spec.ts",
        "own-keys.spec.ts",
        "provider.spec.ts",
        "secret-life.spec.ts",
        "secrets.spec.ts",
        "sharing.spec.ts",
        "targets.spec.ts",
        "wizard.spec.ts",
      ],
    },
  ],
});
