// Pictures of every page with sample data, for the documentation: `npm run screenshots`, or scripts/screenshots.

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { test } from "@playwright/test";

import { withPalette } from "../support/palette.ts";
import { Installation, samplePages, SHOTS, withSamples } from "../support/samples.ts";

/** Longer pages are cut, where what is below is more of the same: a picture is to be looked at. */
const MAX_HEIGHT = 1_600;

test("screenshots of every page", async ({ browser }) => {
  test.setTimeout(1_800_000);
  const installation = await Installation.started();
  const { sealport } = installation;
  try {
    const first = await browser.newPage();
    const cookies = await withSamples(first, sealport);
    await first.close();
    rmSync(SHOTS, { recursive: true, force: true });
    mkdirSync(SHOTS, { recursive: true });
    for (const theme of ["light", "dark"] as const) {
      for (const width of [390, 1280]) {
        const context = await browser.newContext({ colorScheme: theme, viewport: { width, height: 800 } });
        for (const { name, path, signedIn, prepare, whole } of samplePages(sealport)) {
          await context.clearCookies();
          if (signedIn) await context.addCookies(cookies);
          const page = await context.newPage();
          await page.goto(sealport.url + path);
          await prepare?.(page);
          const height = Number(await page.evaluate("document.documentElement.scrollHeight"));
          const most = whole ? Infinity : MAX_HEIGHT;
          await page.setViewportSize({ width, height: Math.min(Math.max(height, 600), most) });
          const shot = await page.screenshot({ animations: "disabled", caret: "hide" });
          writeFileSync(join(SHOTS, `${name}-${theme}-${width}.png`), withPalette(shot));
          await page.close();
        }
        await context.close();
      }
    }
  } finally {
    await installation.remove();
  }
});
