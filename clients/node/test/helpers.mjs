import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';

export const patience = 60_000; // ms: for what must happen, on a machine that is far too busy

const dirs = [];
const children = new Set();

after(async () => {
  const ends = [...children].map((child) => {
    child.kill('SIGKILL');
    return child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined;
  });
  await Promise.all(ends);
  for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
});

/** An empty directory that is removed when the file's tests are done. */
export function scratch() {
  const dir = realpathSync(mkdtempSync(`${tmpdir()}/dblock-node-`));
  dirs.push(dir);
  return dir;
}

/** The dblock binary that the package finds. */
export function binary() {
  return process.env.DBLOCK_BINARY || createRequire(import.meta.url).resolve(`@dblock/${process.platform}-${process.arch}/bin/dblock`);
}

/** A program of its own: `code` is a module that finds everything that the package exports, and `args`. */
export function program(code, args = [], options = {}) {
  const entry = new URL('../dist/index.mjs', import.meta.url).href;
  const text = `
    import * as dblock from ${JSON.stringify(entry)};
    import { readFileSync, writeFileSync } from 'node:fs';
    import { setTimeout as sleep } from 'node:timers/promises';
    const { ${'acquire, withDatabaseLock, DatabaseLock, Session, lockingStore, createLockedDatabase'} } = dblock;
    const args = JSON.parse(process.argv[1]);
    const say = (value) => process.stdout.write(JSON.stringify(value) + '\\n');
    ${code}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', text, JSON.stringify(args)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    cwd: fileURLToPath(new URL('..', import.meta.url)),
    ...options,
  });
  children.add(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ended = once(child, 'exit').then(([code, signal]) => {
    children.delete(child);
    return signal ?? code;
  });
  return {
    child,
    /** The exit code, or the name of the signal. */
    ended: () => within(ended, 'the program ends'),
    /** The next thing that it says. */
    next: async () => {
      const { value, done } = await within(lines.next(), 'the program says something');
      if (done) throw new Error('the program has ended without a word');
      return JSON.parse(value);
    },
  };
}

/** Waits for a promise, but not forever. */
export async function within(promise, what, ms = patience) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`in ${ms} ms not: ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits until a condition is true. */
export async function until(condition, what) {
  const end = performance.now() + patience;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`in ${patience} ms not: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Whether a process lives. */
export function lives(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** What a test needs to wait for another process that wants the lock. */
export async function waits(session, db) {
  await until(async () => (await session.status(db)).waiting.length > 0, 'somebody waits');
}

