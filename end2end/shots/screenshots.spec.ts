// Pictures of every page with sample data, for the documentation: `npm run screenshots`, or scripts/screenshots.

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { test } from "@playwright/test";

import { withPalette } from "../support/palette.ts";
import { alive, Installation, samplePages, SHOTS, withSamples } from "../support/samples.ts";
import { ROOT, type Sealport } from "../support/sealport.ts";

/** Longer pages are cut, where what is below is more of the same: a picture is to be looked at. */
const MAX_HEIGHT = 1_600;

/** Some alone, by name (`PAGES=secret-new,tokens`), are put where nothing is kept. */
const ONLY = process.env.PAGES?.split(",");
const PLACE = ONLY ? join(ROOT, "end2end/out/shots") : SHOTS;

/** A directory of a test says nothing to who looks at a picture; where one would stand does. */
function withNicerPlaces(sealport: Sealport): string {
  return `{
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const { currentNode: text } = texts;
      if (text.data.includes(${JSON.stringify(sealport.dir)})) text.data = text.data.replaceAll(${JSON.stringify(`${sealport.dir}/sources`)}, "/srv/mcp");
    }
  }`;
}

test("screenshots of every page", async ({ browser }) => {
  test.setTimeout(1_800_000);
  const installation = await Installation.started();
  const { sealport } = installation;
  try {
    const first = await browser.newPage();
    const cookies = await withSamples(first, sealport);
    await first.close();
    rmSync(PLACE, { recursive: true, force: true });
    mkdirSync(PLACE, { recursive: true });
    for (const theme of ["light", "dark"] as const) {
      for (const width of [390, 1280]) {
        const context = await browser.newContext({ colorScheme: theme, viewport: { width, height: 800 } });
        for (const { name, path, signedIn, prepare, whole } of samplePages(sealport)) {
          if (ONLY && !ONLY.includes(name)) continue;
          await context.clearCookies();
          if (signedIn) await context.addCookies(cookies);
          const page = await context.newPage();
          await page.goto(sealport.url + path);
          await alive(page);
          await prepare?.(page);
          await page.evaluate(withNicerPlaces(sealport));
          const height = Number(await page.evaluate("document.documentElement.scrollHeight"));
          const most = whole ? Infinity : MAX_HEIGHT;
          await page.setViewportSize({ width, height: Math.min(Math.max(height, 600), most) });
          const shot = await page.screenshot({ animations: "disabled", caret: "hide" });
          writeFileSync(join(PLACE, `${name}-${theme}-${width}.png`), withPalette(shot));
          await page.close();
        }
        await context.close();
      }
    }
  } finally {
    await installation.remove();
  }
});
