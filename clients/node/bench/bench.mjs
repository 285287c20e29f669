// How many times a second can a program acquire the lock, do something and release it, and how long does a second program
// wait for the lock meanwhile?
//
//     npm run bench [-- SECONDS [table]]
//
// With "table", what run/bench of the checkout puts into one table with other languages: a line for each way, of its name,
// cycles per second alone and beside the second program, and that one's waits, median and 99 %, in milliseconds. An
// operation is "counter" then.
//
// "nothing" does nothing under the lock; "counter" adds one to the number in a file, synchronously. The second program
// acquires the lock every 10 ms on the average, holds it for no time, and tells how long it waited. For comparison: to start
// `dblock -d DB -- true` and `flock FILE true` for each operation, and the polling class that invented the lock file, which is
// what test/peer/peer.mjs of the checkout does.
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, readSync, realpathSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { loadavg, tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { acquire, createLockedDatabase, Session, withDatabaseLock } from 'dblock';

const seconds = Number(process.argv[2] ?? 3);
const table = process.argv[3] === 'table';
const dir = realpathSync(mkdtempSync(`${tmpdir()}/dblock-bench-`));
const db = `${dir}/app.db`;
const counter = `${dir}/counter`;

if (process.argv[2] === 'second') {
  const [, , , path, time] = process.argv;
  await second(path, Number(time));
  process.exit();
}
process.on('exit', () => rmSync(dir, { recursive: true, force: true }));

// count adds one to the number in a file that is open, eight digits at its beginning.
let file;
const digits = Buffer.alloc(8);
function count() {
  readSync(file, digits, 0, 8, 0);
  digits.write(String(Number(digits.toString('latin1')) + 1).padStart(8, '0'), 'latin1');
  writeSync(file, digits, 0, 8, 0);
}

// cycles runs one operation after another for a while: how many a second.
async function cycles(operation, time = seconds) {
  for (let i = 0; i < 20; i++) await operation();
  const began = performance.now();
  let n = 0;
  while (performance.now() - began < time * 1000) {
    await operation();
    n++;
  }
  return n / ((performance.now() - began) / 1000);
}

// second is the other program.
async function second(path, time) {
  const waits = [];
  const end = performance.now() + time * 1000;
  await (await acquire(path, { wait: 'forever' })).release();
  do {
    const asked = performance.now();
    const hold = await acquire(path, { wait: 'forever' });
    waits.push(performance.now() - asked);
    await hold.release();
    await sleep(Math.random() * 20);
  } while (performance.now() < end);
  process.stdout.write(JSON.stringify(waits));
}

async function beside(operation) {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), 'second', db, String(seconds)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.on('data', (data) => (text += data));
  let over = false;
  const ended = new Promise((resolve) => child.once('close', resolve)).then(() => (over = true));
  const began = performance.now();
  let n = 0;
  let turned = began;
  while (!over) {
    await operation();
    n++;
    // A loop that lingers comes back to the event loop only now and then, and has to hear that the other has ended.
    if (performance.now() - turned > 100) {
      await new Promise(setImmediate);
      turned = performance.now();
    }
  }
  const rate = n / ((performance.now() - began) / 1000);
  await ended;
  const waits = JSON.parse(text).sort((a, b) => a - b);
  const at = (q) => waits[Math.min(waits.length - 1, Math.floor(q * waits.length))].toFixed(2);
  if (table) return `${rate}\t${at(0.5)}\t${at(0.99)}`;
  return `${rate.toFixed(0).padStart(9)} /s beside it; the second waits: median ${at(0.5)} ms, 99 % ${at(0.99)}, longest ${at(1)} (${waits.length} times)`;
}

function report(name, rate, more = '') {
  if (table) console.log(`${name}\t${rate}\t${more}`);
  else console.log(`${name.padEnd(34)} ${rate.toFixed(0).padStart(9)} /s ${more}`);
}

if (!table) console.log(`load ${loadavg()[0].toFixed(2)}, ${seconds} s each, node ${process.version}`);
await Session.shared().ping();
const operations = [
  ['nothing', () => {}],
  ['counter', count],
];
for (const [what, operation] of table ? operations.slice(1) : operations) {
  writeFileSync(counter, '00000000');
  file = openSync(counter, 'r+');
  for (const linger of [0, 5, 50]) {
    const once = () => withDatabaseLock(db, { linger, wait: 'forever' }, operation);
    const rate = await cycles(once);
    report(table ? `session, linger ${linger} ms` : `session, linger ${linger}, ${what}`, rate, await beside(once));
  }
  report(table ? 'no lock' : `without a lock, ${what}`, await cycles(async () => operation()));
}

const binary = process.env.DBLOCK_BINARY || createRequire(import.meta.url).resolve(`@dblock/${process.platform}-${process.arch}/bin/dblock`);
const run = promisify(execFile);
report(table ? 'dblock spawned, `true`' : 'dblock -d DB -- true, started', await cycles(() => run(binary, ['-d', db, '--', 'true'])));
report(table ? 'flock spawned, `true`' : 'flock FILE true, started', await cycles(() => run('flock', [`${dir}/flock`, 'true'])));

const peer = fileURLToPath(new URL('../../../test/peer/peer.mjs', import.meta.url));
if (existsSync(peer)) {
  const { stdout } = await run(process.execPath, [peer, `${dir}/.peer.lock`, '--duration', String(seconds * 1000), '--counter', counter]);
  report('the polling class', JSON.parse(stdout).ops / seconds);
}
if (table) process.exit();

try {
  await import('@electric-sql/pglite');
} catch {
  process.exit();
}
for (const linger of [0, 2000]) {
  const pg = await createLockedDatabase(`${dir}/pg`, { linger });
  report(`PGlite, linger ${linger}, one query`, await cycles(() => pg.query('SELECT 1')));
  await pg.close();
}
