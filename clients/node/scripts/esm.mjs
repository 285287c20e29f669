// Writes the entry for `import`. It hands out the very objects of the CommonJS build: two
// copies would be two programs to each other, with a co-process each, and a call in one would
// wait for a lock that is held around it in the other.
import { createRequire } from 'node:module';
import { rmSync, writeFileSync } from 'node:fs';

const dist = new URL('../dist/', import.meta.url);
rmSync(new URL('index.mjs', dist), { force: true });
const names = Object.keys(createRequire(import.meta.url)('../dist/index.js')).filter((name) => name !== '__esModule').sort();
writeFileSync(
  new URL('index.mjs', dist),
  `import all from './index.js';\n\nexport const {\n${names.map((name) => `  ${name},\n`).join('')}} = all;\n`,
);
writeFileSync(new URL('index.d.mts', dist), "export * from './index.js';\n");
