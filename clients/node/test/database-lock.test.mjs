// What the program that invented the lock file has published as the behaviour of its DatabaseLock, and what is new in this one.
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { existsSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import test from 'node:test';
import { DatabaseLock, DatabaseLockError, LockHeldError, Session, withDatabaseLock } from 'dblock';
import { program, scratch, until, waits, within } from './helpers.mjs';

test('acquire and release', async () => {
  const dir = scratch();
  const lock = new DatabaseLock(`${dir}/test.db`, { processType: 'test', maxRetries: 10, retryDelay: 50 });
  assert.equal(lock.getLockPath(), `${dir}/.test.lock`);
  assert.deepEqual(await lock.isLocked(), { locked: false });
  assert.equal(lock.getLockInfo(), null);
  assert.equal(await lock.acquire(), undefined);
  const info = lock.getLockInfo();
  assert.equal(info.process, 'test');
  assert.equal(info.host, hostname());
  assert.ok(Math.abs(info.timestamp - Date.now()) < 60_000);
  const status = await lock.isLocked();
  assert.equal(status.locked, true);
  assert.equal(status.info.process, 'test');
  assert.equal(status.info.pid, info.pid);
  await lock.release();
  assert.equal(lock.getLockInfo(), null);
  assert.deepEqual(await lock.isLocked(), { locked: false });
  assert.equal(existsSync(lock.getLockPath()), false);
});

test('the options have the defaults of the original', async () => {
  const dir = scratch();
  const lock = new DatabaseLock(`${dir}/test.db`);
  await lock.acquire();
  assert.equal(lock.getLockInfo().process, 'unknown');
  const began = performance.now();
  const error = await new DatabaseLock(`${dir}/test.db`).acquire().catch((e) => e);
  const took = performance.now() - began;
  assert.ok(took > 4900 && took < 30_000, `${took}`);
  assert.match(error.message, /^Failed to acquire database lock after 5s timeout \(50 retries\)/);
  await lock.release();
});

test('two locks on one database', async () => {
  const db = `${scratch()}/test.db`;
  const [one, two] = [1, 2].map((n) => new DatabaseLock(db, { processType: `test-${n}`, maxRetries: 5, retryDelay: 50 }));
  await one.acquire();
  const error = await two.acquire().catch((e) => e);
  assert.ok(error instanceof DatabaseLockError);
  assert.ok(error instanceof LockHeldError);
  assert.equal(error.lockInfo.process, 'test-1');
  assert.match(error.message, /^Failed to acquire database lock after 0.25s timeout \(5 retries\): it is held by test-1 \(PID: \d+\)$/);
  await one.release();
  await two.acquire();
  assert.equal(two.getLockInfo().process, 'test-2');
  await two.release();
});

test('release without acquire is an error', async () => {
  await assert.rejects(new DatabaseLock(`${scratch()}/test.db`).release(), /Cannot release lock that was not acquired by this instance/);
});

test('a directory that is missing is made', async () => {
  const dir = scratch();
  const lock = new DatabaseLock(`${dir}/new/sub/test.db`);
  await lock.acquire();
  assert.ok(existsSync(`${dir}/new/sub/.test.lock`));
  await lock.release();
});

test('a lock that a crashed process has left is taken over', async () => {
  const dir = scratch();
  const lock = new DatabaseLock(`${dir}/test.db`, { processType: 'recovery-test', maxRetries: 10, retryDelay: 50 });
  writeFileSync(
    lock.getLockPath(),
    JSON.stringify({ pid: 99999999, timestamp: Date.now() - 60_000, host: 'test-host', process: 'crashed-process' }, null, 2),
  );
  assert.deepEqual(await lock.isLocked(), { locked: false });
  await lock.acquire();
  assert.equal(lock.getLockInfo().process, 'recovery-test');
  await lock.release();
});

test('a stale lock counts by the staleTimeout', async () => {
  const dir = scratch();
  const notice = JSON.stringify({ pid: 1, timestamp: Date.now() - 3000, host: 'elsewhere.invalid', process: 'slow' });
  writeFileSync(`${dir}/.test.lock`, notice);
  await assert.rejects(new DatabaseLock(`${dir}/test.db`, { maxRetries: 1 }).acquire(), { code: 'held' });
  const lock = new DatabaseLock(`${dir}/test.db`, { staleTimeout: 2000, maxRetries: 10 });
  await lock.acquire();
  await lock.release();
});

test('a lock that is alive is not stale, however old it is', async () => {
  const db = `${scratch()}/test.db`;
  const one = new DatabaseLock(db, { processType: 'test-1', staleTimeout: 100 });
  const two = new DatabaseLock(db, { processType: 'test-2', staleTimeout: 100, maxRetries: 10, retryDelay: 50 });
  await one.acquire();
  await assert.rejects(two.acquire(), { code: 'held' });
  await one.release();
});

test('a corrupted lock file is taken over', async () => {
  const dir = scratch();
  const lock = new DatabaseLock(`${dir}/test.db`, { maxRetries: 50, retryDelay: 100 });
  writeFileSync(lock.getLockPath(), 'invalid json content');
  const old = new Date(Date.now() - 60_000);
  utimesSync(lock.getLockPath(), old, old);
  await lock.acquire();
  assert.equal(JSON.parse(readFileSync(lock.getLockPath(), 'utf8')).process, 'unknown');
  await lock.release();
});

test('forceUnlock removes a lock, whoever has it', async () => {
  const db = `${scratch()}/test.db`;
  const lock = new DatabaseLock(db, { processType: 'test' });
  await lock.forceUnlock();
  await lock.acquire();
  const other = new DatabaseLock(db, { processType: 'other' });
  const lost = new Promise((resolve) => lock.once('lost', resolve));
  await other.forceUnlock();
  assert.equal((await within(lost, 'the loss is told')).code, 'lost');
  await other.acquire();
  await assert.rejects(lock.release(), { code: 'lost' });
  // One's own.
  assert.equal((await other.forceUnlock()).removed, true);
  assert.equal(other.getLockInfo(), null);
  await other.acquire();
  await other.release();
  // That of another program, which is alive.
  const p = program(`const lock = new DatabaseLock(args[0]); lock.on('lost', (e) => say(e.code)); await lock.acquire(); say('had');`, [db]);
  await p.next();
  await assert.rejects(lock.forceUnlock({ ifStale: true }), { code: 'held' });
  await lock.forceUnlock();
  assert.equal(await p.next(), 'lost');
  await lock.acquire();
  await lock.release();
});

test('withDatabaseLock releases, also when the function throws', async () => {
  const db = `${scratch()}/test.db`;
  assert.equal(await withDatabaseLock(db, { processType: 'test' }, async () => 'success'), 'success');
  assert.deepEqual(await new DatabaseLock(db).isLocked(), { locked: false });
  await assert.rejects(
    withDatabaseLock(db, { processType: 'test' }, async () => {
      throw new Error('Operation failed');
    }),
    /^Error: Operation failed$/,
  );
  assert.deepEqual(await new DatabaseLock(db).isLocked(), { locked: false });
});

test('one lock object for several operations', async () => {
  const db = `${scratch()}/test.db`;
  const lock = new DatabaseLock(db, { maxRetries: 600 });
  let inside = 0;
  await Promise.all(
    Array.from({ length: 10 }, async () => {
      await lock.acquire();
      assert.equal(++inside, 1);
      await new Promise((resolve) => setImmediate(resolve));
      inside--;
      await lock.release();
    }),
  );
  assert.deepEqual(await lock.isLocked(), { locked: false });
});

test('it tells that it waits', async () => {
  const db = `${scratch()}/test.db`;
  const one = new DatabaseLock(db, { processType: 'one' });
  const two = new DatabaseLock(db, { processType: 'two', wait: 'forever' });
  assert.ok(two instanceof EventEmitter);
  await one.acquire();
  const told = new Promise((resolve) => two.once('waiting', resolve));
  const acquired = two.acquire();
  assert.equal((await within(told, 'it waits')).holder.process, 'one');
  await one.release();
  await acquired;
  await two[Symbol.asyncDispose]();
  assert.equal(two.getLockInfo(), null);
});

test('a wait can be aborted', async () => {
  const db = `${scratch()}/test.db`;
  const one = new DatabaseLock(db);
  await one.acquire();
  const abort = new AbortController();
  const waiting = new DatabaseLock(db, { wait: 'forever' }).acquire({ signal: abort.signal });
  await waits(Session.shared(), db);
  abort.abort(new Error('enough'));
  await assert.rejects(waiting, /enough/);
  await one.release();
});

test('a program that has only a lock file is respected, and respects it', async () => {
  const dir = scratch();
  const lock = new DatabaseLock(`${dir}/test.db`, { wait: 'forever' });
  // A live one of this machine: this very process.
  const peer = { pid: process.pid, timestamp: Date.now(), host: hostname(), process: 'peer' };
  writeFileSync(lock.getLockPath(), JSON.stringify(peer));
  await assert.rejects(new DatabaseLock(`${dir}/test.db`, { maxRetries: 3 }).acquire(), /it is held by peer \(PID/);
  assert.equal((await lock.isLocked()).info.process, 'peer');
  const acquired = lock.acquire();
  rmSync(lock.getLockPath());
  await within(acquired, 'it is free');
  assert.throws(() => writeFileSync(lock.getLockPath(), '{}', { flag: 'wx' }), { code: 'EEXIST' });
  await lock.release();
});

test('concurrent programs', async () => {
  const dir = scratch();
  const code = `
    const lock = new DatabaseLock(args[0], { processType: 'p', maxRetries: 600 });
    for (let i = 0; i < 50; i++) {
      await lock.acquire();
      try {
        let n = 0;
        try { n = Number(readFileSync(args[1], 'utf8')); } catch {}
        await sleep(1);
        writeFileSync(args[1], String(n + 1));
      } finally {
        await lock.release();
      }
    }`;
  const programs = Array.from({ length: 4 }, () => program(code, [`${dir}/test.db`, `${dir}/counter`]));
  for (const p of programs) assert.equal(await p.ended(), 0);
  assert.equal(readFileSync(`${dir}/counter`, 'utf8'), '200');
  await until(() => !existsSync(`${dir}/.test.lock`), 'the lock file is gone');
});
