// A foreign participant of the lock protocol, for tests: it behaves like the
// TypeScript DatabaseLock, its weaknesses included. Do not repair them here; they
// are what dblock has to live with:
//
//   - it creates the lock file first and fills it afterwards
//   - a file that it cannot read or parse is unlinked at once, whoever wrote it
//   - so is one whose timestamp is too old, whether its writer lives or not
//   - it releases by unlinking the path, without looking whose file is there
//
// usage: node peer.mjs LOCKFILE [flags]
//
//   --ops N         number of turns (default 1; unlimited if --duration is given)
//   --duration MS   begin no turn after this time
//   --hold MS       how long each turn holds the lock (default 0)
//   --pause MS      pause between two turns (default 0)
//   --retries N     tries per turn (default 50)
//   --delay MS      between two tries (default 100)
//   --stale MS      age from which a lock file is unlinked (default 30000)
//   --process NAME  label in the lock file (default "unknown")
//   --log FILE      append {"who","start","end","pid"} for each turn; ms since the epoch
//   --referee FILE  append a line "peer PID START END" for each turn; ns of the monotonic clock
//   --counter FILE  add one to the number in FILE: read it, hold, write it back
//   --write-delay MS  keep the new lock file empty this long (default: not on purpose)
//   --wait-stdin    print "held" when the lock is had; release when stdin closes
//
// At the end it prints one line: {"ops":turns done,"timeouts":N,"errors":N}.
// The exit code is 0 whatever these say, and 64 for wrong usage.

import { appendFileSync, closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs';
import { mkdir, open, readFile, unlink, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

class Timeout extends Error {}

// remove reports whether path is gone now, by us or by somebody else.
async function remove(path) {
  try {
    await unlink(path);
    return true;
  } catch (err) {
    return err.code === 'ENOENT';
  }
}

// outdated reports whether the file in our way has been declared invalid or
// stale. Everything that goes wrong on the way counts as invalid, be it EACCES,
// half a JSON text, or that the file was released a moment ago. A missing or odd
// timestamp makes the age NaN, which is never larger than anything.
async function outdated(path, stale) {
  try {
    const found = JSON.parse(await readFile(path, 'utf-8'));
    return Date.now() - found.timestamp > stale;
  } catch {
    return true;
  }
}

// create makes the lock file in two steps: for a moment it is there and empty.
async function create(path, text, writeDelay) {
  if (writeDelay === 0) {
    await writeFile(path, text, { flag: 'wx' });
    return;
  }
  const file = await open(path, 'wx');
  try {
    await sleep(writeDelay);
    await file.writeFile(text);
  } finally {
    await file.close();
  }
}

async function acquire(path, opts) {
  const parent = () => mkdir(dirname(path), { recursive: true }).catch(() => {});
  await parent();
  // The timestamp is that of the first try, and is never refreshed.
  const text = JSON.stringify(
    { pid: process.pid, timestamp: Date.now(), host: hostname(), process: opts.process },
    null,
    2,
  );
  let tries = 0;
  while (tries < opts.retries) {
    try {
      await create(path, text, opts.writeDelay);
      return;
    } catch (err) {
      if (err.code === 'ENOENT') {
        await parent();
        continue;
      }
      if (err.code !== 'EEXIST') throw err;
    }
    // A removal is free of charge, but the delay follows all the same.
    const free = (await outdated(path, opts.stale)) && (await remove(path));
    if (!free) tries++;
    if (tries < opts.retries) await sleep(opts.delay);
  }
  throw new Timeout();
}

async function release(path) {
  try {
    await unlink(path);
  } catch (err) {
    if (err.code !== 'ENOENT') throw err;
  }
}

function count(file) {
  try {
    const text = readFileSync(file, 'utf-8').trim();
    if (!/^\d*$/.test(text)) throw new Error(`${file} is damaged`);
    return Number(text);
  } catch (err) {
    if (err.code === 'ENOENT') return 0;
    throw err;
  }
}

// store writes without truncating: who reads the file meanwhile misses one update, not all.
function store(file, n) {
  const fd = openSync(file, constants.O_WRONLY | constants.O_CREAT);
  writeSync(fd, `${n}\n`);
  closeSync(fd);
}

function number(values, name) {
  const n = Number(values[name]);
  if (values[name] === '' || !Number.isFinite(n) || n < 0) usage(`--${name} needs a number`);
  return n;
}

function usage(problem) {
  process.stderr.write(`peer: ${problem}\nusage: node peer.mjs LOCKFILE [flags]\n`);
  process.exit(64);
}

function options() {
  let parsed;
  try {
    parsed = parseArgs({
      allowPositionals: true,
      options: {
        ops: { type: 'string' },
        duration: { type: 'string' },
        hold: { type: 'string', default: '0' },
        pause: { type: 'string', default: '0' },
        retries: { type: 'string', default: '50' },
        delay: { type: 'string', default: '100' },
        stale: { type: 'string', default: '30000' },
        process: { type: 'string', default: 'unknown' },
        log: { type: 'string' },
        referee: { type: 'string' },
        counter: { type: 'string' },
        'write-delay': { type: 'string', default: '0' },
        'wait-stdin': { type: 'boolean', default: false },
      },
    });
  } catch (err) {
    usage(err.message);
  }
  const { values, positionals } = parsed;
  if (positionals.length !== 1) usage('exactly one lock file is needed');
  const limited = values.duration !== undefined;
  return {
    path: resolve(positionals[0]),
    ops: values.ops !== undefined ? number(values, 'ops') : limited ? Infinity : 1,
    duration: limited ? number(values, 'duration') : Infinity,
    hold: number(values, 'hold'),
    pause: number(values, 'pause'),
    retries: number(values, 'retries'),
    delay: number(values, 'delay'),
    stale: number(values, 'stale'),
    process: values.process,
    log: values.log,
    referee: values.referee,
    counter: values.counter,
    writeDelay: number(values, 'write-delay'),
    waitStdin: values['wait-stdin'],
  };
}

// work is what the lock protects. The log covers all of it.
async function work(opts, stdinClosed) {
  const start = Date.now();
  const began = process.hrtime.bigint();
  const before = opts.counter && count(opts.counter);
  if (opts.waitStdin) {
    process.stdout.write('held\n');
    await stdinClosed;
  }
  if (opts.hold > 0) await sleep(opts.hold);
  if (opts.counter) store(opts.counter, before + 1);
  if (opts.referee) {
    appendFileSync(opts.referee, `peer ${process.pid} ${began} ${process.hrtime.bigint()}\n`);
  }
  if (opts.log) {
    const line = { who: opts.process, start, end: Date.now(), pid: process.pid };
    appendFileSync(opts.log, `${JSON.stringify(line)}\n`);
  }
}

const opts = options();
const result = { ops: 0, timeouts: 0, errors: 0 };
const began = performance.now();

let stdinClosed;
if (opts.waitStdin) {
  stdinClosed = new Promise((done) => {
    process.stdin.once('close', done).once('error', done).resume();
  });
}

for (let turn = 0; turn < opts.ops && performance.now() - began < opts.duration; turn++) {
  if (turn > 0 && opts.pause > 0) await sleep(opts.pause);
  try {
    await acquire(opts.path, opts);
    try {
      await work(opts, stdinClosed);
    } finally {
      await release(opts.path);
    }
    result.ops++;
  } catch (err) {
    if (err instanceof Timeout) {
      result.timeouts++;
    } else {
      result.errors++;
      process.stderr.write(`peer: ${err.message}\n`);
    }
  }
}
process.stdout.write(`${JSON.stringify(result)}\n`);
