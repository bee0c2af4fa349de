// Drives Chromium for the tests: one JSON object a line in, one a line out.
//
// In: {"id", "do", …}; out: {"id", "result"} or {"id", "error"}, and what pages report,
// {"event", "page", …}. tests/browser/driver.py is the other end.
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { chromium } from "playwright-core";

const browsers = new Map();
const pages = new Map();
const write = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const locate = (page, { role, name, label, selector }) => {
  if (role) return page.getByRole(role, { name, exact: true });
  return label ? page.getByLabel(label, { exact: true }) : page.locator(selector);
};

const verbs = {
  async launch({ browser, program, flags }) {
    browsers.set(browser, await chromium.launch({ executablePath: program, args: flags }));
  },
  async open({ browser, page: name, url, scripts = [], options = {} }) {
    const context = await browsers.get(browser).newContext(options);
    const page = await context.newPage();
    pages.set(name, page);
    await page.exposeFunction("report", (line) => write({ ...line, page: name }));
    for (const script of scripts) await page.addInitScript(script);
    page.on("pageerror", (error) => write({ event: "problem", page: name, text: String(error) }));
    page.on("console", (message) =>
      write({ event: "console", page: name, kind: message.type(), text: message.text() }),
    );
    await page.goto(url);
  },
  async close({ page: name }) {
    await pages.get(name).context().close();
    pages.delete(name);
  },
  async close_all() {
    for (const page of pages.values()) await page.context().close();
    pages.clear();
  },
  reload: ({ page }) => pages.get(page).reload().then(() => null),
  run: ({ page, verb, given }) =>
    pages.get(page).evaluate(([verb, given]) => window.phone[verb](given), [verb, given]),
  evaluate: ({ page, script }) => pages.get(page).evaluate(script),
  click: ({ page, ...where }) => locate(pages.get(page), where).click(),
  fill: ({ page, text, ...where }) => locate(pages.get(page), where).fill(text),
  press: ({ page, key }) => pages.get(page).keyboard.press(key),
  see: ({ page, state = "visible", ...where }) =>
    locate(pages.get(page), where).first().waitFor({ state }),
  text: ({ page, ...where }) => locate(pages.get(page), where).innerText(),
  // Asked again and again: a page's policy forbids it to evaluate text by itself.
  async until({ page, script }) {
    while (!(await pages.get(page).evaluate(script))) await setTimeout(50);
  },
  picture: ({ page, path }) => pages.get(page).screenshot({ path, fullPage: true }).then(() => path),
};

const input = createInterface({ input: process.stdin });
input.on("line", async (line) => {
  const { id, do: verb, ...given } = JSON.parse(line);
  try {
    write({ id, result: (await verbs[verb](given)) ?? null });
  } catch (error) {
    write({ id, error: String(error.message ?? error) });
  }
});
// Whoever started it has no more to say, or is gone: so are its browsers.
input.on("close", async () => {
  for (const browser of browsers.values()) await browser.close();
  process.exit();
});
write({ event: "ready" });
