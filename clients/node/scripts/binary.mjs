// Builds dblock for the tests from the checkout around this package, unless DBLOCK_BINARY names one, to
// where an installation has it: into the package for this system.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = new URL('../../../', import.meta.url);
const installer = fileURLToPath(new URL('install.sh', root));
if (!process.env.DBLOCK_BINARY && existsSync(installer)) {
  const bin = new URL(`../node_modules/@dblock/${process.platform}-${process.arch}/bin/`, import.meta.url);
  mkdirSync(bin, { recursive: true });
  execFileSync('sh', [installer, '--build', fileURLToPath(new URL('dblock', bin))], { stdio: ['ignore', 'ignore', 'inherit'] });
}
