import { defineConfig } from "@playwright/test";

import config from "./playwright.config.ts";

/** Screenshots are made, not tested: they run only when they are asked for. */
export default defineConfig({ ...config, testDir: "shots", projects: [{ name: "screenshots" }] });
