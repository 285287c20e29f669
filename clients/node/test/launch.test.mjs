// bin/dblock of the npm package, which goes on as the program in the package for this system.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, relative } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { binary, scratch, until, within } from './helpers.mjs';

const linux = process.platform !== 'linux' && 'reads /proc';
const system = `${process.platform}-${process.arch}`;
const here = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

/** The launcher as it is installed, with the package for this system in `modules`, or without it; `bin` is a link to it. */
function installed({ dir = scratch(), modules = 'node_modules', bin = 'node_modules/.bin', name = 'dblock', arch = '/proc/sys/kernel/arch' } = {}) {
  const launcher = `${dir}/node_modules/dblock/bin/${name}`;
  mkdirSync(dirname(launcher), { recursive: true });
  writeFileSync(launcher, readFileSync(here('scripts/launcher.sh'), 'utf8').replace('/proc/sys/kernel/arch', arch), { mode: 0o755 });
  cpSync(here('dist'), `${dir}/node_modules/dblock/dist`, { recursive: true });
  if (modules) {
    mkdirSync(`${dir}/${modules}/@dblock/${system}/bin`, { recursive: true });
    symlinkSync(binary(), `${dir}/${modules}/@dblock/${system}/bin/${name}`);
  }
  mkdirSync(`${dir}/${bin}`, { recursive: true });
  symlinkSync(relative(`${dir}/${bin}`, launcher), `${dir}/${bin}/${name}`);
  return { dir, launcher, link: `${dir}/${bin}/${name}`, run: ['-d', `${dir}/app.db`, '--'] };
}

/** Those that run in a process group: pid, state and arguments of each. */
function group(id) {
  const out = spawnSync('ps', ['-A', '-o', 'pid=', '-o', 'pgid=', '-o', 'stat=', '-o', 'args='], { encoding: 'utf8' }).stdout;
  const lines = out.trim().split('\n').map((line) => line.trim().split(/\s+/));
  return lines.filter(([, pgid]) => Number(pgid) === id).map(([pid, , stat, ...args]) => ({ pid: Number(pid), stat, args: args.join(' ') }));
}

/** For a test that has failed: nothing is left of what it started. */
function endGroup(id) {
  try {
    process.kill(-id, 'SIGKILL');
  } catch {
    // It has ended, as it should.
  }
}

test('the shell finds the program, and is replaced by it', async (t) => {
  for (const [what, places] of [
    ['beside', {}],
    ['its own, as global installations have it', { modules: 'node_modules/dblock/node_modules', bin: 'bin' }],
    ['on a system that does not tell its processor in a file', { arch: '/nonexistent' }],
    ['where only Node looks', { modules: 'node_modules/dblock/dist/node_modules' }],
  ]) {
    await t.test(what, async () => {
      const { dir, launcher, link, run } = installed(places);
      for (const path of [link, launcher, relative(dir, link)]) {
        const child = spawn(path, [...run, 'sh', '-c', 'echo $DBLOCK_HOLD_PID; exit 7'], { cwd: dir, stdio: ['ignore', 'pipe', 'inherit'] });
        const [out, [code]] = await within(Promise.all([child.stdout.toArray(), once(child, 'exit')]), path);
        assert.equal(code, 7);
        if (what !== 'where only Node looks') assert.equal(Number(out.join('')), child.pid);
      }
      const bare = spawnSync('sh', ['dblock', ...run, 'true'], { cwd: dirname(launcher), encoding: 'utf8' });
      assert.equal(bare.status, 0, bare.stderr);
    });
  }
});

test('what was inherited comes through the shell', { skip: linux }, () => {
  const { dir, link, run } = installed();
  writeFileSync(`${dir}/text`, 'twelve');
  const ignored = `trap '' HUP USR2; exec bash -c 'exec 3<text 12<text "$@"' - ${[link, ...run].join(' ')} bash -c 'cat <&12; grep SigIgn /proc/self/status; ls -l /proc/$$/fd'`;
  const { stdout, stderr } = spawnSync('bash', ['-c', ignored], { cwd: dir, encoding: 'utf8' });
  assert.match(stdout, /^twelveSigIgn:\t0000000000000801\n/, stderr);
  assert.match(stdout, / 3 -> .*text\n/);
  assert.match(stdout, / 12 -> .*text\n/);
  assert.doesNotMatch(stdout, /launcher|bin\/dblock/); // and nothing of its own
});

test('each system that has a package is known to the launcher', { skip: !existsSync(here('../../packaging')) && 'outside of a checkout' }, () => {
  const systems = (text, pattern) => [...new Set([...text.matchAll(pattern)].map(([, ...found]) => found.join('-')))].sort();
  const launcher = readFileSync(here('scripts/launcher.sh'), 'utf8');
  const builder = readFileSync(here('../../packaging/npm/build.mjs'), 'utf8');
  const packages = systems(builder, /os: '(\w+)', cpu: '(\w+)'/g);
  assert.ok(packages.length > 1);
  assert.deepEqual(systems(launcher, /\b((?:linux|darwin|freebsd)-\w+)/g), packages);
});

test('Node runs the launcher, too', () => {
  const { dir, launcher, run } = installed();
  const sh = (command) => spawnSync(process.execPath, [launcher, ...run, 'sh', '-c', command], { encoding: 'utf8' });
  assert.equal(sh('exit 7').status, 7);
  assert.equal(spawnSync(process.execPath, [launcher, '--nonsense']).status, 64);
  for (const signal of ['SIGTERM', 'SIGKILL', 'SIGUSR1', 'SIGINT', 'SIGQUIT']) {
    assert.equal(sh(`ulimit -c 0; kill -${signal.slice(3)} $$`).signal, signal);
  }
  assert.equal(sh('kill -PIPE $$').signal, 'SIGPIPE');
  if (linux === false) assert.match(sh('grep SigIgn /proc/self/status').stdout, /SigIgn:\t0+\n/);
  assert.equal(existsSync(`${dir}/.app.lock`), false);
});

test('signals go through Node to the command, once', async (t) => {
  const { launcher, run } = installed();
  const program = `
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR2', 'SIGALRM']) process.on(signal, () => console.log(signal));
    process.stdin.on('data', () => process.exit(5));
    console.log('ready');`;
  const child = spawn(process.execPath, [launcher, ...run, process.execPath, '-e', program], { stdio: ['pipe', 'pipe', 'inherit'], detached: true });
  t.after(() => endGroup(child.pid));
  let said = '';
  child.stdout.on('data', (data) => (said += data));
  await until(() => said === 'ready\n');
  let expected = said;
  for (const signal of ['SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR2', 'SIGALRM', 'SIGTERM']) {
    child.kill(signal);
    expected += `${signal}\n`;
    await until(() => said.length >= expected.length);
    assert.equal(said, expected);
  }
  child.stdin.write('x');
  assert.deepEqual(await within(once(child, 'exit'), 'the end'), [5, null]);
});

const python = spawnSync('python3', ['--version']).error && 'needs Python';

test('a stop goes through Node, and what follows', { skip: linux || python }, async (t) => {
  const { launcher, run } = installed();
  // In a process group as a shell gives it. One in a session of its own is orphaned, and cannot be stopped so.
  const own = 'import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])';
  const child = spawn('python3', ['-c', own, process.execPath, launcher, ...run, 'sleep', '1000'], { stdio: 'ignore' });
  t.after(() => endGroup(child.pid));
  await until(() => group(child.pid).some(({ args }) => args === 'sleep 1000'));
  child.kill('SIGTSTP');
  await until(() => group(child.pid).every(({ stat }) => stat.startsWith('T')));
  child.kill('SIGCONT');
  await until(() => group(child.pid).every(({ stat }) => !stat.startsWith('T')));
  child.kill('SIGTERM');
  assert.deepEqual(await within(once(child, 'exit'), 'the end'), [null, 'SIGTERM']);
});

test('what is typed is not sent a second time by Node', { skip: python }, async () => {
  const { launcher, run } = installed();
  const program = `
    process.on('SIGINT', () => console.log('interrupted'));
    process.stdin.on('data', () => setTimeout(() => process.exit(5), 300));
    console.log('ready');`;
  const terminal = `
import os, pty, sys
pid, fd = pty.fork()
if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
seen = b""
def wait(text):
    global seen
    while text not in seen: seen += os.read(fd, 4096)
wait(b"ready"); os.write(fd, b"\\x03"); wait(b"interrupted"); os.write(fd, b"x\\n")
try:
    while True: seen += os.read(fd, 4096) or sys.exit("no end")
except OSError: pass
print(seen.count(b"interrupted"), os.WEXITSTATUS(os.waitpid(pid, 0)[1]))`;
  const args = ['-c', terminal, process.execPath, launcher, ...run, process.execPath, '-e', program];
  const child = spawn('python3', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const [out] = await within(Promise.all([child.stdout.toArray(), once(child, 'exit')]), 'the terminal');
  assert.equal(out.join(''), '1 5\n');
});

test('when Node is killed, the command goes on and has the lock', { skip: linux }, async () => {
  const { dir, launcher, link, run } = installed();
  const child = spawn(process.execPath, [launcher, ...run, 'sh', '-c', 'echo $DBLOCK_HOLD_PID; exec sleep 1000'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [pid] = await within(once(child.stdout, 'data'), 'the command');
  child.kill('SIGKILL');
  await within(once(child, 'exit'), 'the death');
  if (Number(pid) !== child.pid) {
    assert.equal(spawnSync(link, ['-d', `${dir}/app.db`, '-w', '0', '--', 'true']).status, 75);
    process.kill(Number(pid), 'SIGTERM');
    await until(() => !existsSync(`/proc/${Number(pid)}`));
  }
  assert.equal(spawnSync(link, ['-d', `${dir}/app.db`, '-w', '5', '--', 'true']).status, 0);
});

test('without the package for this system both say so', () => {
  const { launcher, link } = installed({ modules: '', name: 'dblock-stats' });
  for (const [file, ...args] of [[link], [process.execPath, launcher]]) {
    const { status, stderr } = spawnSync(file, args, { encoding: 'utf8' });
    assert.equal(status, 127);
    assert.equal(
      stderr,
      `dblock-stats: it was installed without its program for ${system}\n` +
        'hint: install dblock on the system that it is to run on, with its optional dependencies\n',
    );
  }
});
