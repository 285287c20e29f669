// Builds dblock for the tests from the checkout around this package, unless DBLOCK_BINARY names one.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = new URL('../../../', import.meta.url);
const installer = fileURLToPath(new URL('install.sh', root));
if (!process.env.DBLOCK_BINARY && existsSync(installer)) {
  const target = fileURLToPath(new URL('../bin/dblock', import.meta.url));
  mkdirSync(new URL('../bin', import.meta.url), { recursive: true });
  execFileSync('sh', [installer, '--build', target], { stdio: ['ignore', 'ignore', 'inherit'] });
}
