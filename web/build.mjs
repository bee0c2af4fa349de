// Bundles the demo page for the relay to serve, and the pages of the browser tests.
import { build } from "esbuild";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";

const here = new URL(".", import.meta.url);
const page = new URL("../relay/control/page/", here);
const tests = new URL("../build/browser/", here);
const BUNDLED = {
  jssip: "LICENSE.md",
  debug: "LICENSE",
  events: "LICENSE",
  ms: "license.md",
  "sdp-transform": "LICENSE",
};

const common = { bundle: true, target: "es2022", logLevel: "warning", charset: "utf8" };
const bundle = (entry, out, more = {}) =>
  build({
    ...common,
    entryPoints: [new URL(entry, here).pathname],
    outfile: new URL(out).pathname,
    ...more,
  });

async function fresh(directory) {
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true });
}

async function licences() {
  const texts = [];
  for (const [name, file] of Object.entries(BUNDLED)) {
    const text = await readFile(new URL(`node_modules/${name}/${file}`, here), "utf8");
    texts.push(`${name}\n${"=".repeat(name.length)}\n\n${text.trim()}\n`);
  }
  return texts.join("\n\n");
}

await fresh(page);
await bundle("src/app.js", new URL("app.js", page), { minify: true });
for (const file of ["index.html", "style.css"]) {
  await cp(new URL(`src/${file}`, here), new URL(file, page));
}
await writeFile(new URL("licences.txt", page), await licences());

await fresh(tests);
for (const name of ["loopback", "jssip", "sipjs"]) {
  await bundle(`test/${name}.js`, new URL(`${name}.js`, tests));
  await writeFile(
    new URL(`${name}.html`, tests),
    `<!doctype html><meta charset="utf-8"><title>${name}</title>` +
      `<script src="${name}.js"></script>\n`,
  );
}
