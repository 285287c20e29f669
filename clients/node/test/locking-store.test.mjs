import assert from 'node:assert/strict';
import test from 'node:test';
import { acquire, DatabaseLock, LockHeldError, LockingStore, lockingStore } from 'dblock';
import { program, scratch, within } from './helpers.mjs';

/** A store as programs have it: private fields, a property, methods that call each other, a transaction. */
class Tasks {
  #tasks = new Map();
  #lock;
  name = 'tasks';

  constructor(db) {
    this.#lock = new DatabaseLock(db);
  }

  async #held() {
    const { locked, info } = await this.#lock.isLocked();
    return locked ? info.process : 'nobody';
  }

  async addTask(title) {
    this.#tasks.set(title, { title, by: await this.#held() });
    return this.getTask(title);
  }

  async getTask(title) {
    return this.#tasks.get(title);
  }

  count() {
    return this.#tasks.size;
  }

  async heldBy() {
    return this.#held();
  }

  async fail() {
    throw new Error('no such table');
  }

  async transaction(fn) {
    return fn(this);
  }

  get size() {
    return this.#tasks.size;
  }
}

test('each method holds the lock', async () => {
  const dir = scratch();
  const inner = new Tasks(`${dir}/app.db`);
  const store = lockingStore(inner, `${dir}/app.db`, { processType: 'cli' });
  assert.equal(await inner.heldBy(), 'nobody');
  assert.equal(await store.heldBy(), 'cli');
  assert.deepEqual(await store.addTask('one'), { title: 'one', by: 'cli' });
  assert.equal(await store.count(), 1);
  await assert.rejects(store.fail(), /^Error: no such table$/);
  assert.equal(await inner.heldBy(), 'nobody');
  // What is not a method is as it was.
  assert.equal(store.name, 'tasks');
  assert.equal(store.size, 1);
  store.name = 'other';
  assert.equal(inner.name, 'other');
  assert.ok('addTask' in store && 'isLocked' in store && !('drop' in store));
  assert.deepEqual(Object.keys(store), ['name']);
  assert.ok(store instanceof Tasks);
  assert.ok(store instanceof LockingStore);
  assert.ok(!(inner instanceof LockingStore));
  assert.equal(store.addTask, store.addTask);
  assert.equal(store.getInnerStore(), inner);
  assert.equal(await store, store); // it is no promise
});

test('new LockingStore, with what the original has', async () => {
  const dir = scratch();
  const store = new LockingStore(new Tasks(`${dir}/app.db`), `${dir}/app.db`);
  assert.equal(await store.heldBy(), 'store-wrapper');
  assert.deepEqual(await store.isLocked(), { locked: false });
  assert.deepEqual(store.getLockInfo(), { path: `${dir}/.app.lock`, current: null });
  const during = await store.transaction(() => store.getLockInfo());
  assert.equal(during.current.process, 'store-wrapper');
  const lock = new DatabaseLock(`${dir}/app.db`, { processType: 'long-running-process' });
  await lock.acquire();
  assert.equal((await store.isLocked()).info.process, 'long-running-process');
  const quick = new LockingStore(new Tasks(`${dir}/app.db`), `${dir}/app.db`, { maxRetries: 2, retryDelay: 50 });
  const error = await quick.addTask('x').catch((e) => e);
  assert.ok(error instanceof LockHeldError);
  assert.match(error.message, /^Database is currently in use by long-running-process \(PID: \d+\)\. Please try again in a moment\.$/);
  await store.forceUnlock();
  assert.equal(await store.heldBy(), 'store-wrapper');
  await assert.rejects(lock.release(), { code: 'lost' });
});

test('which methods are locked how', async () => {
  const db = `${scratch()}/app.db`;
  const store = lockingStore(
    {
      getOne: async () => 'one',
      getAndIncrement: async () => 'two',
      list: async () => 'three',
      writeAll: async () => 'four',
      on: () => 'five',
      transaction: async (fn) => fn(),
      getTransaction: async (fn) => fn(),
    },
    db,
    {
      shared: ['get*', 'list'],
      exclusive: ['getAndIncrement'],
      unlocked: ['on'],
      transaction: ['transaction', 'getTransaction'],
      maxRetries: 0,
    },
  );
  const reader = await acquire(db, { shared: true });
  assert.equal(await store.getOne(), 'one');
  assert.equal(await store.list(), 'three');
  assert.equal(store.on(), 'five');
  for (const name of ['getAndIncrement', 'writeAll', 'transaction', 'getTransaction']) {
    await assert.rejects(store[name](() => {}), { code: 'held' }, name);
  }
  await reader.release();
  const writer = await acquire(db);
  await assert.rejects(store.getOne(), { code: 'held' });
  assert.equal(store.on(), 'five');
  await writer.release();
  assert.equal(await store.getAndIncrement(), 'two');
});

test('a transaction is one hold for all that it calls', async () => {
  const dir = scratch();
  const db = `${dir}/app.db`;
  const store = lockingStore(new Tasks(db), db, { processType: 'cli', shared: ['get*', 'count'], transaction: 'transaction' });
  const result = await within(
    store.transaction(async (tx) => {
      await tx.addTask('one');
      await store.addTask('two'); // the wrapped one: the same hold
      assert.equal((await store.getTask('two')).by, 'cli');
      const p = program(`await acquire(args[0], { wait: 0 }).catch((e) => say(e.code));`, [db]);
      assert.equal(await p.next(), 'held');
      await p.ended();
      return store.count();
    }),
    'the transaction',
  );
  assert.equal(result, 2);
  // In a method that is shared, one that is not would wait for itself.
  const readers = lockingStore({ getAll: (fn) => fn(), add: async () => {} }, db, { shared: ['get*'] });
  await assert.rejects(readers.getAll(() => readers.add()), { code: 'upgrade' });
});

test('what is frozen, or has a method named like a promise, can be wrapped', async () => {
  const db = `${scratch()}/app.db`;
  const frozen = lockingStore(Object.freeze({ get: async () => 1, n: 2 }), db);
  assert.equal(await frozen.get(), 1);
  assert.equal(frozen.n, 2);
  assert.deepEqual({ ...frozen }.n, 2);
});

test('it can be disposed of', async () => {
  const db = `${scratch()}/app.db`;
  const events = [];
  const store = lockingStore(
    {
      async [Symbol.asyncDispose]() {
        events.push((await new DatabaseLock(db).isLocked()).locked);
      },
    },
    db,
  );
  await store[Symbol.asyncDispose]();
  assert.deepEqual(events, [true]);
});

test('with linger a burst is one hold', async () => {
  const db = `${scratch()}/app.db`;
  const store = lockingStore({ token: async () => store.getLockInfo().current.timestamp, other: async () => {} }, db, { linger: 60_000 });
  const first = await store.token();
  for (let i = 0; i < 20; i++) await store.other();
  assert.equal(await store.token(), first);
  await (await acquire(db)).release(); // and it is given up for somebody else
});
