import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { acquire, DatabaseLock, LockHeldError, Session, withDatabaseLock } from 'dblock';
import { program, scratch, until, within } from './helpers.mjs';

const long = 600_000; // ms: longer than any test

async function locked(db) {
  return (await new DatabaseLock(db).isLocked()).locked;
}

// What lingers is given up, so that the test's process can use another key.
async function giveUp(db) {
  await (await acquire(db, { wait: 5000 })).release();
}

test('a lock that lingers is used again', async () => {
  const db = `${scratch()}/app.db`;
  const tokens = new Set();
  for (let i = 0; i < 10; i++) await withDatabaseLock(db, { linger: long }, (hold) => tokens.add(hold.token));
  assert.equal(tokens.size, 1);
  assert.equal(await locked(db), true);
  await giveUp(db);
  assert.equal(await locked(db), false);
});

test('it is given up when its time is over', async () => {
  const db = `${scratch()}/app.db`;
  const tokens = new Set();
  await withDatabaseLock(db, { linger: 20 }, (hold) => tokens.add(hold.token));
  await until(async () => !(await locked(db)), 'the lock is free');
  await withDatabaseLock(db, { linger: 20 }, (hold) => tokens.add(hold.token));
  assert.equal(tokens.size, 2);
});

test('its time is counted from when it was acquired', async () => {
  const db = `${scratch()}/app.db`;
  const tokens = new Set();
  // Each operation is shorter than the time, and none leaves a pause.
  const end = performance.now() + 500;
  while (performance.now() < end) await withDatabaseLock(db, { linger: 50 }, (hold) => tokens.add(hold.token));
  assert.ok(tokens.size >= 3, `${tokens.size}`);
});

test('it is handed over when somebody else waits', async () => {
  const db = `${scratch()}/app.db`;
  await withDatabaseLock(db, { linger: long }, () => {});
  const p = program(`const hold = await acquire(args[0], { wait: 30000 }); say(hold.waitedMs); await hold.release();`, [db]);
  assert.ok((await p.next()) < 20_000);
  assert.equal(await p.ended(), 0);
});

test('but not before what is at work has ended', async () => {
  const db = `${scratch()}/app.db`;
  let there = 'nobody';
  const options = { linger: long };
  const p = await withDatabaseLock(db, options, async (hold) => {
    const other = program(`const hold = await acquire(args[0], { wait: 'forever' }); say('had'); await hold.release();`, [db]);
    await until(async () => (await Session.shared().status(db)).waiting.length > 0, 'somebody waits');
    await until(() => hold.grant.wanted, 'it is told that the lock is wanted');
    await hold.check();
    there = 'us';
    return other;
  });
  assert.equal(there, 'us');
  assert.equal(await p.next(), 'had');
  await withDatabaseLock(db, options, () => {}); // and it can be had again, behind the other
  await giveUp(db);
  assert.equal(await p.ended(), 0);
});

test('a loop that never comes back to the event loop starves nobody', async () => {
  const dir = scratch();
  const db = `${dir}/app.db`;
  const p = program(
    `const end = performance.now() + 1000 * args[1];
     say('begins');
     let n = 0;
     for (; performance.now() < end; n++) await withDatabaseLock(args[0], { linger: 5 }, () => {});
     say(n);`,
    [db, 4],
  );
  await p.next();
  const waits = [];
  const end = performance.now() + 2000;
  while (performance.now() < end) {
    const hold = await acquire(db, { wait: 'forever' });
    waits.push(hold.waitedMs);
    await hold.release();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  waits.sort((a, b) => a - b);
  assert.ok(waits.length >= 10, `${waits.length}`);
  assert.ok(waits[waits.length >> 1] < 500, `median ${waits[waits.length >> 1]} ms`);
  assert.ok((await p.next()) > 1000);
});

test('those in one program take turns, in order', async () => {
  const db = `${scratch()}/app.db`;
  const order = [];
  let inside = 0;
  await Promise.all(
    Array.from({ length: 50 }, (_, i) =>
      withDatabaseLock(db, { linger: 5, wait: 60_000 }, async () => {
        assert.equal(++inside, 1);
        order.push(i);
        await new Promise((resolve) => setImmediate(resolve));
        inside--;
      }),
    ),
  );
  assert.deepEqual(order, order.slice().sort((a, b) => a - b));
});

test('readers of one program use one lock together', async () => {
  const db = `${scratch()}/app.db`;
  let inside = 0;
  let most = 0;
  const tokens = new Set();
  await Promise.all(
    Array.from({ length: 10 }, () =>
      withDatabaseLock(db, { linger: long, shared: true }, async (hold) => {
        most = Math.max(most, ++inside);
        tokens.add(hold.token);
        await new Promise((resolve) => setTimeout(resolve, 20));
        inside--;
      }),
    ),
  );
  assert.equal(most, 10);
  assert.equal(tokens.size, 1);
  await giveUp(db);
});

test('another way to ask for the same lock has it given up at once', async () => {
  const db = `${scratch()}/app.db`;
  await withDatabaseLock(db, { linger: long }, () => {});
  await (await acquire(db, { wait: 1000 })).release();
  await withDatabaseLock(db, { linger: long }, () => {});
  await withDatabaseLock(db, { linger: long, process: 'other', wait: 1000 }, () => {});
  await withDatabaseLock(db, { linger: long, shared: true, wait: 1000 }, () => {});
  await giveUp(db);
});

test('who waits behind others of the program has his own patience', async () => {
  const db = `${scratch()}/app.db`;
  const options = { linger: 50, process: 'busy' };
  let go;
  const gate = new Promise((resolve) => (go = resolve));
  const busy = withDatabaseLock(db, options, () => gate);
  await until(() => locked(db), 'the lock is held');
  const patient = withDatabaseLock(db, { ...options, wait: 'forever' }, () => 'had');
  const abort = new AbortController();
  const aborted = withDatabaseLock(db, { ...options, wait: 'forever', signal: abort.signal }, () => 'had');
  for (const wait of [0, 100]) {
    const error = await withDatabaseLock(db, { ...options, wait }, () => {}).catch((e) => e);
    assert.ok(error instanceof LockHeldError, `${error.stack}`);
    assert.equal(error.holder.process, 'busy');
    assert.ok(error.waitedMs >= wait - 5);
  }
  abort.abort();
  await assert.rejects(aborted, { name: 'AbortError' });
  go();
  await busy;
  assert.equal(await within(patient, 'his turn'), 'had');
});

test('the same, while somebody elsewhere holds the lock', async () => {
  const db = `${scratch()}/app.db`;
  const hold = await acquire(db, { process: 'elsewhere' });
  const options = { linger: 50, process: 'line' };
  const first = withDatabaseLock(db, { ...options, wait: 200 }, () => {}).catch((e) => e);
  const quick = withDatabaseLock(db, { ...options, wait: 100 }, () => {}).catch((e) => e);
  const patient = withDatabaseLock(db, { ...options, wait: 'forever' }, () => 'had');
  for (const error of [await quick, await first]) {
    assert.ok(error instanceof LockHeldError, `${error.stack}`);
    assert.equal(error.holder.process, 'elsewhere');
  }
  await hold.release();
  assert.equal(await within(patient, 'his turn'), 'had');
  await giveUp(db);
});

test('an abort of all who wait leaves the queue', async () => {
  const db = `${scratch()}/app.db`;
  const hold = await acquire(db);
  const abort = new AbortController();
  const two = [0, 1].map(() => withDatabaseLock(db, { linger: 50, wait: 'forever', signal: abort.signal }, () => {}));
  await until(async () => (await Session.shared().status(db)).waiting.length > 0, 'it waits');
  abort.abort();
  for (const one of two) await assert.rejects(one, { name: 'AbortError' });
  await until(async () => (await Session.shared().status(db)).waiting.length === 0, 'the queue is empty');
  await hold.release();
  assert.equal(await withDatabaseLock(db, { linger: 50 }, () => 'had'), 'had');
});

test('a lock that is lost while it lingers is acquired anew', async () => {
  const db = `${scratch()}/app.db`;
  const session = new Session();
  const tokens = [];
  await session.run(db, { linger: long }, (hold) => tokens.push(hold.token));
  const { pid } = session;
  process.kill(pid, 'SIGKILL');
  await until(() => session.pid !== pid, 'its end is noticed');
  await session.run(db, { linger: long }, (hold) => tokens.push(hold.token));
  assert.ok(tokens[1] > tokens[0]);
  // One that is at work hears of it, and the next one does not suffer.
  const lost = session.run(db, { linger: long }, (hold) => {
    process.kill(session.pid, 'SIGKILL');
    return hold.lost;
  });
  const next = session.run(db, { linger: long }, () => 'had');
  await assert.rejects(within(lost, 'the loss'), { code: 'lost' });
  assert.equal(await within(next, 'the next one'), 'had');
  await session.close();
});

test('nothing is lost in a loop that is used in the same way by several programs', async () => {
  const dir = scratch();
  const code = `
    for (let i = 0; i < 500; i++) {
      await withDatabaseLock(args[0], { wait: 'forever', linger: args[2] }, () => {
        let n = 0;
        try { n = Number(readFileSync(args[1], 'utf8')); } catch {}
        writeFileSync(args[1], String(n + 1));
      });
    }`;
  const programs = [0, 1, 5, 50].map((linger) => program(code, [`${dir}/app.db`, `${dir}/counter`, linger]));
  for (const p of programs) assert.equal(await p.ended(), 0);
  assert.equal(readFileSync(`${dir}/counter`, 'utf8'), '2000');
});
