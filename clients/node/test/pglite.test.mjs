import assert from 'node:assert/strict';
import { cpSync, existsSync } from 'node:fs';
import test from 'node:test';
import { PGlite } from '@electric-sql/pglite';
import { acquire, createDatabase, createLockedDatabase, DatabaseLock, LockHeldError, withDatabaseLock } from 'dblock';
import { program, scratch, within } from './helpers.mjs';

// To make a database takes many seconds on a busy machine; to copy one does not.
const made = `${scratch()}/pg`;
const making = PGlite.create(made).then(async (db) => {
  await db.exec('CREATE TABLE rows (worker int, n int)');
  await db.close();
});

async function database() {
  await making;
  const path = `${scratch()}/pg`;
  cpSync(made, path, { recursive: true });
  return path;
}

async function count(db) {
  return (await db.query('SELECT count(*)::int AS n FROM rows')).rows[0].n;
}

async function locked(path) {
  return (await new DatabaseLock(path).isLocked()).locked;
}

// An open function that counts: how often, and how many are open at the same time.
function counting() {
  const seen = { opens: 0, now: 0, most: 0 };
  const open = async (dataDir) => {
    seen.opens++;
    seen.most = Math.max(seen.most, ++seen.now);
    const db = await PGlite.create(dataDir);
    const close = db.close.bind(db);
    db.close = async () => {
      await close();
      seen.now--;
    };
    return db;
  };
  return { seen, open };
}

test('a PGlite that is made where none was', async () => {
  const path = `${scratch()}/data/pg`;
  const db = await createLockedDatabase(path);
  await db.exec('CREATE TABLE t (n int)');
  await db.close();
  assert.ok(existsSync(`${path}/PG_VERSION`));
  assert.equal(existsSync(`${path}/../.pg.lock`), false);
});

test('a PGlite behind its lock', async () => {
  const path = await database();
  const { seen, open } = counting();
  const db = await createLockedDatabase(path, { processType: 'cli', linger: 600_000, open });
  assert.equal((await db.isLocked()).info.process, 'cli');
  assert.equal(db.getLockInfo().path, `${path}/../.pg.lock`.replace('pg/../', ''));
  await db.exec('INSERT INTO rows VALUES (1, 1)');
  await db.sql`INSERT INTO rows VALUES (${1}, ${2})`;
  await Promise.all(Array.from({ length: 20 }, (_, n) => db.query('INSERT INTO rows VALUES (2, $1)', [n])));
  assert.equal(await count(db), 22);
  assert.equal(await db.use((pg) => count(pg)), 22);
  assert.equal(seen.opens, 1);
  assert.equal(db.closed, false);
  await db.close();
  assert.equal(db.closed, true);
  assert.equal(seen.now, 0);
  assert.equal(await locked(path), false);
  await assert.rejects(db.query('SELECT 1'), /the database is closed/);
  await db.close();
});

test('without linger it is opened for each call', async () => {
  const path = await database();
  const { seen, open } = counting();
  const db = await createLockedDatabase(path, { linger: 0, open });
  assert.equal(seen.now, 0);
  assert.equal(await locked(path), false);
  await db.query('INSERT INTO rows VALUES (1, 1)');
  assert.equal(await count(db), 1);
  assert.equal(seen.opens, 3);
  assert.equal(await locked(path), false);
  await db.use(async () => {
    await db.query('INSERT INTO rows VALUES (1, 2)');
    assert.equal(await count(db), 2);
  });
  assert.equal(seen.opens, 4);
  await db.close();
});

test('it is closed and given up when somebody else waits', async () => {
  const path = await database();
  const { seen, open } = counting();
  const db = await createLockedDatabase(path, { linger: 600_000, open });
  await db.query('INSERT INTO rows VALUES (1, 1)');
  const p = program(`const db = await createLockedDatabase(args[0], { wait: 'forever' }); say((await db.query('SELECT count(*)::int AS n FROM rows')).rows[0].n); await db.close();`, [path]);
  assert.equal(await p.next(), 1);
  assert.equal(seen.now, 0);
  await db.query('INSERT INTO rows VALUES (1, 2)');
  assert.equal(seen.opens, 2);
  assert.equal(await p.ended(), 0);
  await db.close();
});

test('a transaction is one hold, and what is called in it belongs to it', async () => {
  const path = await database();
  const db = await createLockedDatabase(path, { linger: 0 });
  const other = new DatabaseLock(path, { maxRetries: 0 });
  await within(
    db.transaction(async (tx) => {
      await tx.query('INSERT INTO rows VALUES (1, 1)');
      await db.query('INSERT INTO rows VALUES (1, 2)'); // PGlite itself would wait for its own transaction
      assert.equal(await count(db), 2);
      await assert.rejects(acquireElsewhere(path), /held/);
    }),
    'the transaction',
  );
  await assert.rejects(
    db.transaction(async (tx) => {
      await tx.query('INSERT INTO rows VALUES (1, 3)');
      await db.query('INSERT INTO rows VALUES (1, 4)');
      throw new Error('no');
    }),
    /^Error: no$/,
  );
  assert.equal(await count(db), 2);
  assert.equal((await other.isLocked()).locked, false);
  await db.close();
});

async function acquireElsewhere(path) {
  const p = program(`await acquire(args[0], { wait: 0 }).then(() => say('had'), (e) => say(e.code)); process.exit();`, [path]);
  const said = await p.next();
  await p.ended();
  if (said !== 'had') throw new Error(said);
}

test('in a hold of the program it is opened under that one', async () => {
  const path = await database();
  const { seen, open } = counting();
  const db = await createLockedDatabase(path, { linger: 600_000, open });
  await withDatabaseLock(path, {}, async (hold) => {
    assert.equal(seen.now, 0);
    await Promise.all([db.query('INSERT INTO rows VALUES (1, 1)'), db.query('INSERT INTO rows VALUES (1, 2)')]);
    assert.equal(await count(db), 2);
    assert.equal(seen.now, 0);
    await hold.check();
  });
  assert.equal(seen.most, 1);
  assert.equal(await count(db), 2);
  await db.close();
});

test('a program that forgets to close it ends all the same, and has closed it', async () => {
  const path = await database();
  const p = program(
    `const { PGlite } = await import('@electric-sql/pglite');
     const open = async (dir) => { const db = await PGlite.create(dir); const close = db.close.bind(db); db.close = async () => { await close(); say('closed'); }; return db; };
     const db = await createLockedDatabase(args[0], { linger: 300, open });
     await db.query('INSERT INTO rows VALUES (1, 1)');`,
    [path],
  );
  assert.equal(await p.next(), 'closed');
  assert.equal(await p.ended(), 0);
});

test('what is wrong is told at the start', async () => {
  const path = await database();
  const hold = await acquire(path, { process: 'long-running-process' });
  const error = await createLockedDatabase(path, { maxRetries: 2, retryDelay: 50 }).catch((e) => e);
  assert.ok(error instanceof LockHeldError);
  assert.match(error.message, /^Database is currently in use by long-running-process \(PID: \d+\)/);
  await hold.release();
  await assert.rejects(
    createLockedDatabase(path, {
      open: () => {
        throw new Error('damaged');
      },
    }),
    /^Error: damaged$/,
  );
  assert.equal(await locked(path), false);
  await assert.rejects(createLockedDatabase('memory://'), { code: 'usage' });
});

test('a transaction whose lock was lost goes no further', async () => {
  const path = await database();
  const db = await createLockedDatabase(path, { linger: 600_000 });
  const doing = db.transaction(async (tx) => {
    await tx.query('INSERT INTO rows VALUES (1, 1)');
    await db.forceUnlock();
    await tx.query('INSERT INTO rows VALUES (1, 2)');
  });
  await assert.rejects(within(doing, 'the end'), { code: 'lost' });
  assert.equal(await count(db), 0);
  await db.close();
});

test('createDatabase, with locking and without', async () => {
  const path = await database();
  const store = await createDatabase({ dataDir: path, enableLocking: true, lockOptions: { processType: 'cli' } });
  assert.equal((await store.isLocked()).info.process, 'cli');
  await store.query('INSERT INTO rows VALUES (1, 1)');
  await store.close();
  const plain = await createDatabase({ dataDir: path, enableLocking: false });
  assert.ok(plain instanceof PGlite);
  assert.equal(await count(plain), 1);
  assert.equal(await locked(path), false);
  await plain.close();
  const memory = await createDatabase({ dataDir: 'memory://' });
  assert.ok(memory instanceof PGlite);
  await memory.close();
});

test('six programs on one PGlite lose no row', async () => {
  const path = await database();
  const code = `
    const db = await createLockedDatabase(args[0], { wait: 'forever', linger: args[2] });
    for (let n = 0; n < 10; n++) {
      await db.query('INSERT INTO rows VALUES ($1, $2)', [args[1], n]);
      if (n % 3 === 0) await db.transaction((tx) => tx.query('INSERT INTO rows VALUES ($1, $2)', [args[1], 100 + n]));
    }
    await db.close();`;
  const programs = Array.from({ length: 6 }, (_, i) => program(code, [path, i, i % 2 ? 2000 : 300]));
  for (const p of programs) assert.equal(await within(p.ended(), 'the end', 300_000), 0);
  const db = await createLockedDatabase(path);
  assert.equal(await count(db), 6 * 14);
  await db.close();
});
