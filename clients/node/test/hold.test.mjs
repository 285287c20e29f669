import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import test from 'node:test';
import { acquire, DatabaseLock, DatabaseLockError, LockHeldError, Session, withDatabaseLock } from 'dblock';
import { program, scratch, waits, within } from './helpers.mjs';

test('a lock is held from acquire to release', async () => {
  const dir = scratch();
  const db = `${dir}/app.db`;
  const hold = await acquire(db, { process: 'etl', info: 'ticket 7' });
  const notice = JSON.parse(readFileSync(`${dir}/.app.lock`, 'utf8'));
  assert.equal(notice.process, 'etl');
  assert.equal(notice.pid, hold.info.pid);
  assert.equal(notice.pid, Session.shared().pid);
  assert.equal(notice.dblock.info, 'ticket 7');
  assert.equal(notice.dblock.token, hold.token);
  assert.equal(hold.db, db);
  assert.equal(hold.lockFile, `${dir}/.app.lock`);
  assert.equal(hold.mode, 'exclusive');
  assert.equal(hold.env.DBLOCK_HOLD_TOKEN, String(hold.token));
  await hold.check();
  assert.equal(hold.done, false);
  await hold.release();
  await hold.release();
  assert.equal(hold.done, true);
  assert.equal(existsSync(`${dir}/.app.lock`), false);
  const next = await acquire(db);
  assert.ok(next.token > hold.token);
  await next.release();
});

test('await using releases', async () => {
  const db = `${scratch()}/app.db`;
  const hold = await acquire(db);
  await hold[Symbol.asyncDispose]();
  assert.equal((await new DatabaseLock(db).isLocked()).locked, false);
});

test('who waits too long is told who it is', async () => {
  const db = `${scratch()}/app.db`;
  const hold = await acquire(db, { process: 'mcp-server' });
  const waiting = [];
  const error = await acquire(db, { wait: 600, onWaiting: (w) => waiting.push(w) }).catch((e) => e);
  assert.ok(error instanceof LockHeldError);
  assert.ok(error instanceof DatabaseLockError);
  assert.equal(error.code, 'held');
  assert.equal(error.message, `Database is currently in use by mcp-server (PID: ${hold.info.pid}). Please try again in a moment.`);
  assert.equal(error.holder.process, 'mcp-server');
  assert.equal(error.lockInfo.process, 'mcp-server');
  assert.equal(error.lockInfo.host, hold.info.host);
  assert.ok(error.waitedMs >= 550, `${error.waitedMs}`);
  assert.ok(waiting.length >= 1);
  assert.equal(waiting[0].holder.process, 'mcp-server');
  assert.equal(waiting[0].lockFile, hold.lockFile);
  await assert.rejects(acquire(db, { wait: 0 }), LockHeldError);
  await hold.release();
});

test('waits are milliseconds or a text', async () => {
  const db = `${scratch()}/app.db`;
  const hold = await acquire(db);
  for (const options of [{ wait: 100 }, { wait: '100ms' }, { wait: '0.1' }, { maxRetries: 2, retryDelay: 50 }]) {
    const error = await acquire(db, options).catch((e) => e);
    assert.equal(error.code, 'held', error.stack);
    assert.ok(error.waitedMs >= 90 && error.waitedMs < 5000, `${error.waitedMs}`);
  }
  const forever = acquire(db, { wait: Infinity });
  await hold.release();
  await (await within(forever, 'acquired')).release();
  for (const wait of [-1, NaN, 'soon', '5 apples']) {
    await assert.rejects(acquire(db, { wait }), { code: 'usage' });
  }
});

test('a wait can be aborted', async () => {
  const db = `${scratch()}/app.db`;
  const hold = await acquire(db);
  const abort = new AbortController();
  const waiting = acquire(db, { wait: 'forever', signal: abort.signal });
  await waits(Session.shared(), db);
  abort.abort();
  await assert.rejects(within(waiting, 'rejected'), { name: 'AbortError' });
  await assert.rejects(acquire(db, { signal: abort.signal }), { name: 'AbortError' });
  assert.equal((await Session.shared().status(db)).waiting.length, 0);
  await hold.release();
  // It was not acquired behind our back.
  await (await acquire(db, { wait: 0 })).release();
});

test('an abort that comes with the lock leaves nothing held', async () => {
  const db = `${scratch()}/app.db`;
  for (let i = 0; i < 100; i++) {
    const abort = new AbortController();
    const waiting = acquire(db, { signal: abort.signal });
    if (i % 2 === 0) setImmediate(() => abort.abort());
    else abort.abort();
    await waiting.then(
      (hold) => hold.release(),
      (error) => assert.equal(error.name, 'AbortError'),
    );
    await (await acquire(db, { wait: 1000 })).release();
  }
});

test('readers share, writers do not', async () => {
  const db = `${scratch()}/app.db`;
  const one = await acquire(db, { shared: true });
  const two = await acquire(db, { mode: 'shared', wait: 0 });
  assert.equal(two.mode, 'shared');
  await assert.rejects(acquire(db, { wait: 0 }), { code: 'held' });
  await one.release();
  await two.release();
});

test('a lock inside of itself', async () => {
  const dir = scratch();
  const db = `${dir}/app.db`;
  symlinkSync('app.db', `${dir}/alias`);
  await withDatabaseLock(db, {}, async (outer) => {
    await withDatabaseLock(db, { wait: 0 }, async (inner) => {
      assert.equal(inner.nested, true);
      assert.equal(inner.token, outer.token);
    });
    // By another name, and as shared.
    const alias = await acquire(`${dir}/alias`, { shared: true, wait: 0 });
    assert.equal(alias.token, outer.token);
    await alias.release();
    const lock = new DatabaseLock(db, { maxRetries: 0 });
    await lock.acquire();
    await lock.release();
    assert.equal((await lock.isLocked()).locked, true);
    // Another database is another matter.
    await withDatabaseLock(`${dir}/other.db`, {}, async (other) => {
      assert.notEqual(other.token, outer.token);
      await withDatabaseLock(db, { wait: 0 }, (again) => assert.equal(again.token, outer.token));
    });
  });
  assert.equal((await new DatabaseLock(db).isLocked()).locked, false);
});

test('what runs inside keeps the lock when the outer one is released first', async () => {
  const db = `${scratch()}/app.db`;
  let inner;
  await withDatabaseLock(db, {}, async () => {
    inner = await acquire(db, { wait: 0 });
  });
  assert.equal((await new DatabaseLock(db).isLocked()).locked, true);
  await inner.check();
  await inner.release();
  assert.equal((await new DatabaseLock(db).isLocked()).locked, false);
});

test('what outlives a hold is a stranger', async () => {
  const db = `${scratch()}/app.db`;
  let go;
  const gate = new Promise((resolve) => (go = resolve));
  let later;
  await withDatabaseLock(db, {}, () => {
    later = gate.then(() => acquire(db, { wait: 0 }));
  });
  const hold = await acquire(db);
  go();
  await assert.rejects(later, { code: 'held' });
  await hold.release();
});

test('exclusive inside of shared is refused at once', async () => {
  const db = `${scratch()}/app.db`;
  await withDatabaseLock(db, { shared: true }, async () => {
    await assert.rejects(acquire(db), { code: 'upgrade' });
  });
});

test('what the function says is what comes out', async () => {
  const db = `${scratch()}/app.db`;
  assert.equal(await withDatabaseLock(db, {}, () => 42), 42);
  await assert.rejects(
    withDatabaseLock(db, {}, async () => {
      throw new Error('no such table');
    }),
    /no such table/,
  );
  assert.equal((await new DatabaseLock(db).isLocked()).locked, false);
});

test('a database has one lock, however it is spelled', async () => {
  const dir = scratch();
  mkdirSync(`${dir}/real/sub`, { recursive: true });
  symlinkSync('real/sub', `${dir}/link`);
  symlinkSync('real/target.db', `${dir}/db-link`);
  const cwd = process.cwd();
  process.chdir(dir);
  try {
    for (const [db, lock] of [
      ['app.db', '.app.lock'],
      ['app.v2.sqlite', '.app.v2.lock'],
      ['pg', '.pg.lock'],
      ['real/', '.real.lock'],
      ['.hidden', '.hidden.lock'],
      ['..odd.db', '.odd.lock'],
      ['name.', '.name.lock'],
      ['./real/../app.db', '.app.lock'],
      ['link/../app.db', 'real/.app.lock'], // behind a link, .. is the parent of its target
      ['db-link', 'real/.target.lock'],
      [new URL(`file://${dir}/a%20b.db`), '.a b.lock'],
      [`file://${dir}/app.db`, '.app.lock'],
    ]) {
      assert.equal(new DatabaseLock(db).getLockPath(), `${dir}/${lock}`, `${db}`);
      assert.equal((await Session.shared().status(db)).lock_file, `${dir}/${lock}`, `${db}`);
    }
    const named = new DatabaseLock('app.db', { lockFile: '.astrotask.lock' });
    assert.equal(named.getLockPath(), `${dir}/.astrotask.lock`);
    await named.acquire();
    assert.ok(existsSync('.astrotask.lock'));
    await named.release();
  } finally {
    process.chdir(cwd);
  }
});

test('errors have the codes of the session', async () => {
  const dir = scratch();
  await assert.rejects(acquire(`${dir}/missing/app.db`), { name: 'DatabaseLockError', code: 'cannot-create' });
  await assert.rejects(acquire('/'), { code: 'name' });
  await assert.rejects(acquire(''), { code: 'usage' });
  await assert.rejects(acquire(`${dir}/app.db`, { priority: 'urgent' }), { code: 'usage' });
});

test('the label is DBLOCK_PROCESS, or the name of the script', async () => {
  const dir = scratch();
  const entry = new URL('../dist/index.js', import.meta.url).pathname;
  const script = `${dir}/migrate.cjs`;
  writeFileSync(
    script,
    `require(${JSON.stringify(entry)}).acquire(${JSON.stringify(`${dir}/app.db`)})
      .then((hold) => { console.log(hold.info.process); return hold.release(); });`,
  );
  for (const [label, expected] of [
    ['', 'migrate'],
    ['from-env', 'from-env'],
  ]) {
    const env = { ...process.env, DBLOCK_PROCESS: label };
    assert.equal(execFileSync(process.execPath, [script], { env, encoding: 'utf8' }).trim(), expected);
  }
});

test('processes take turns', async () => {
  const dir = scratch();
  const counter = `${dir}/counter`;
  const code = `
    for (let i = 0; i < 100; i++) {
      await withDatabaseLock(args[0], { wait: 'forever' }, async () => {
        let n = 0;
        try { n = Number(readFileSync(args[1], 'utf8')); } catch {}
        await null;
        writeFileSync(args[1], String(n + 1));
      });
    }`;
  const programs = Array.from({ length: 4 }, () => program(code, [`${dir}/app.db`, counter]));
  for (const p of programs) assert.equal(await p.ended(), 0);
  assert.equal(readFileSync(counter, 'utf8'), '400');
});

test('a hold that lasts too long is told of', async () => {
  const db = `${scratch()}/app.db`;
  for (const linger of [0, 1]) {
    const hold = await within(
      new Promise((resolve, reject) => {
        const told = acquire(db, { timeLimit: 100, onTimeLimit: 'warn', linger, onOverdue: () => resolve(told) });
        told.catch(reject);
      }),
    );
    await hold.check();
    await hold.release();
  }
  await assert.rejects(acquire(db, { timeLimit: 'soon' }), { code: 'usage' });
});

test('a program that holds a lock for too long is ended', async () => {
  const dir = scratch();
  const late = program(`await acquire('${dir}/app.db', { timeLimit: '0.2' }); await sleep(60_000);`);
  assert.equal(await late.ended(), 'SIGTERM');
  const hold = await acquire(`${dir}/app.db`);
  await hold.release();
});
