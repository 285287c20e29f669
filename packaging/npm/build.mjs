// usage: node packaging/npm/build.mjs BINARIES [DIRECTORY]
//
// Makes the npm packages: `dblock`, which is the Node client and a launcher, and for each system that has
// its programs in BINARIES a package @dblock/SYSTEM with these. BINARIES is what packaging/binaries.sh or
// goreleaser makes: folders with GOOS_GOARCH in their names. The .tgz files are put into DIRECTORY, or
// packaging/npm/dist; the same sources and programs give the same bytes.
//
// There is no install script, which could put the program into the launcher's place and save the
// millisecond that the shell takes: npm warns of such, and pnpm's installation fails until they are approved.
//
// The client is built first: npm ci && npm run build in clients/node.
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const systems = [
  // what Node calls it, what Go calls it
  { os: 'linux', cpu: 'x64', go: 'linux_amd64' },
  { os: 'linux', cpu: 'arm64', go: 'linux_arm64' },
  { os: 'linux', cpu: 'arm', go: 'linux_arm' },
  { os: 'linux', cpu: 'riscv64', go: 'linux_riscv64' },
  { os: 'darwin', cpu: 'arm64', go: 'darwin_arm64' },
  { os: 'darwin', cpu: 'x64', go: 'darwin_amd64' },
  { os: 'freebsd', cpu: 'x64', go: 'freebsd_amd64' },
];

const root = fileURLToPath(new URL('../../', import.meta.url));
const client = join(root, 'clients', 'node');
const programs = ['dblock', ...readdirSync(join(root, 'cmd')).sort(), ...readdirSync(join(root, 'remote', 'cmd')).sort()];

const [binaries, target = fileURLToPath(new URL('dist', import.meta.url))] = process.argv.slice(2);
if (!binaries) stop('usage: node packaging/npm/build.mjs BINARIES [DIRECTORY]', 64);
if (!existsSync(join(client, 'dist', 'index.mjs'))) stop('the client is not built: npm ci && npm run build in clients/node');
const manifest = JSON.parse(readFileSync(join(client, 'package.json'), 'utf8'));
const { version, license, repository, homepage, engines } = manifest;
const destination = resolve(target);
mkdirSync(destination, { recursive: true });

const work = mkdtempSync(join(tmpdir(), 'dblock-npm-'));
process.on('exit', () => rmSync(work, { recursive: true, force: true }));
if (systems.filter(packSystem).length === 0) stop(`there are no programs in ${binaries}`);
packClient();

/** packSystem makes the package of one system, and reports whether it has programs. */
function packSystem({ os, cpu, go }) {
  const found = programs.map((name) => find(go, name));
  if (!found.some(Boolean)) return false;
  const missing = programs.filter((_, i) => !found[i]);
  if (missing.length > 0) stop(`${missing.join(', ')} for ${go} is missing in ${binaries}`);
  const name = `@dblock/${os}-${cpu}`;
  const files = Object.fromEntries(programs.map((each, i) => [`bin/${each}`, { from: found[i], mode: 0o755 }]));
  files.NOTICES = { from: join(root, 'NOTICES') };
  files['README.md'] = { text: `# ${name}\n\nThe programs of [dblock](https://www.npmjs.com/package/dblock) for ${os} on ${cpu}. Install \`dblock\`: it brings them.\n` };
  pack(`${os}-${cpu}`, files, {
    name,
    version,
    description: `The programs of dblock for ${os} on ${cpu}`,
    license,
    repository: { ...repository, directory: undefined },
    homepage,
    files: ['bin', 'NOTICES'],
    engines,
    os: [os],
    cpu: [cpu],
    preferUnplugged: true, // a program cannot be run inside an archive
  });
  return true;
}

/** packClient makes the package that people install. */
function packClient() {
  const files = { 'README.md': { from: join(client, 'README.md') } };
  for (const name of readdirSync(join(client, 'dist'))) files[`dist/${name}`] = { from: join(client, 'dist', name) };
  for (const name of programs) files[`bin/${name}`] = { from: join(client, 'scripts', 'launcher.sh'), mode: 0o755 };
  const { scripts, devDependencies, ...rest } = manifest; // these are for developers
  pack('dblock', files, {
    ...rest,
    bin: Object.fromEntries(programs.map((name) => [name, `bin/${name}`])),
    files: ['dist', 'bin'],
    // All systems, whatever was built here: the same package for everybody.
    optionalDependencies: Object.fromEntries(systems.map(({ os, cpu }) => [`@dblock/${os}-${cpu}`, version])),
    preferUnplugged: true,
  });
}

function pack(folder, files, json) {
  const dir = join(work, folder);
  files = { ...files, LICENSE: { from: join(root, 'LICENSE') }, 'package.json': { text: JSON.stringify(json, null, 2) + '\n' } };
  for (const [name, { from, text, mode = 0o644 }] of Object.entries(files)) {
    const path = join(dir, name);
    mkdirSync(join(path, '..'), { recursive: true });
    if (from) cpSync(from, path, { dereference: true });
    else writeFileSync(path, text);
    chmodSync(path, mode);
  }
  const npm = ['pack', '--json', '--ignore-scripts', '--pack-destination', destination];
  const said = JSON.parse(execFileSync('npm', npm, { cwd: dir, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }));
  const [{ filename }] = Array.isArray(said) ? said : Object.values(said);
  console.log(join(destination, filename));
}

/** find gives the path of a program for a system, GOOS_GOARCH. */
function find(go, name) {
  const folders = readdirSync(resolve(binaries)).filter((each) => new RegExp(`(^|_)${go}(_|$)`).test(each));
  const paths = folders.map((each) => join(resolve(binaries), each, name)).filter((path) => existsSync(path));
  if (paths.length > 1) stop(`more than one ${name} for ${go}: ${paths.join(', ')}`);
  return paths[0];
}

function stop(message, code = 1) {
  console.error(message);
  process.exit(code);
}
