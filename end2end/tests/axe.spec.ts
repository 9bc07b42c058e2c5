// No page breaks WCAG 2.2 AA as far as axe can tell: both themes, a phone and a desk.

import { AxeBuilder } from "@axe-core/playwright";
import { expect, test } from "@playwright/test";

import { alive, Installation, routedPage, routedPages, samplePages, withSamples } from "../support/samples.ts";

const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

let installation: Installation;
let cookies: Awaited<ReturnType<typeof withSamples>>;

test.beforeAll(async ({ browser }) => {
  test.setTimeout(900_000);
  installation = await Installation.started();
  const page = await browser.newPage();
  cookies = await withSamples(page, installation.sealport);
  await page.close();
});

test.afterAll(() => installation.remove());

test("every page of the router is looked at, here and in the pictures", () => {
  const pages = routedPages();
  expect(pages.length).toBeGreaterThan(30);
  const looked = samplePages(installation.sealport).map(({ path }) => routedPage(path, pages));
  expect(pages.filter((page) => !looked.includes(page))).toEqual([]);
});

for (const theme of ["light", "dark"] as const) {
  for (const width of [390, 1280]) {
    test(`${theme}, ${width} pixels wide`, async ({ browser }) => {
      test.setTimeout(600_000);
      const { sealport } = installation;
      const context = await browser.newContext({ colorScheme: theme, viewport: { width, height: 844 } });
      const wrong: string[] = [];
      for (const { name, path, signedIn, prepare } of samplePages(sealport)) {
        await context.clearCookies();
        if (signedIn) await context.addCookies(cookies);
        const page = await context.newPage();
        await page.goto(sealport.url + path);
        await alive(page);
        await prepare?.(page);
        // Two copies of the same types: the one of axe knows an older Playwright.
        const { violations } = await new AxeBuilder({ page: page as never }).withTags(TAGS).analyze();
        for (const { id, help, nodes } of violations) {
          wrong.push(`${name}: ${id}: ${help}: ${nodes.map((node) => `${node.html.slice(0, 200)} ${node.any[0]?.message ?? ""}`).join(" | ")}`);
        }
        // Nothing is cut off or has to be scrolled sideways.
        const overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        if (Number(overflow) > 0) wrong.push(`${name}: ${overflow} pixels wider than the window`);
        await page.close();
      }
      await context.close();
      expect(wrong).toEqual([]);
    });
  }
}
