import { AsyncLocalStorage } from 'node:async_hooks';
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseLock } from './database-lock.js';
import { DatabaseLockError, DblockError } from './errors.js';
import type { LockInfo } from './errors.js';
import type { Hold } from './hold.js';
import type { Line, Resource } from './line.js';
import type { Locking } from './locking-store.js';
import { absolute } from './names.js';
import type { AcquireOptions, Request } from './options.js';
import { requestOf } from './options.js';
import { enclosing, lean } from './scope.js';
import type { Forced } from './session.js';
import { inside, Session } from './session.js';

/** What is needed of a database to open and close it around the holds of its lock: what PGlite has. */
export interface Closable {
  close(): unknown;
}

/** PGlite, as far as its own types are not at hand: give them as `createLockedDatabase<PGlite>(...)`. */
export interface PGliteLike extends Closable {
  query<T = Record<string, any>>(query: string, params?: any[], options?: object): Promise<{ rows: T[]; affectedRows?: number; fields: { name: string; dataTypeID: number }[] }>;
  exec(query: string, options?: object): Promise<{ rows: Record<string, any>[]; affectedRows?: number }[]>;
  sql<T = Record<string, any>>(strings: TemplateStringsArray, ...params: any[]): Promise<{ rows: T[]; affectedRows?: number }>;
  transaction<T>(fn: (tx: any) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

export interface LockedOptions<T extends Closable = PGliteLike> extends Omit<AcquireOptions, 'mode' | 'shared'> {
  /**
   * For how many milliseconds after the lock was acquired the database may stay open, and locked, when the work is done. It
   * is closed and given up as soon as somebody else waits. Default 2000; with 0 it is opened for each call.
   */
  linger?: number;
  /** Opens the database. Default: `PGlite.create(dataDir)`. */
  open?: (dataDir: string) => T | Promise<T>;
}

/** A database that is open only while its lock is held. */
export type LockedDatabase<T extends Closable = PGliteLike> = Omit<T, 'close' | keyof Locking<T>> &
  Pick<Locking<T>, 'isLocked' | 'forceUnlock' | 'getLockInfo'> & {
    /** Runs fn with the open database in one hold. */
    use<R>(fn: (db: T, hold: Hold) => R | PromiseLike<R>): Promise<R>;
    /** Waits for what is at work, closes the database and releases the lock. */
    close(): Promise<void>;
    [Symbol.asyncDispose](): Promise<void>;
  };

export interface DatabaseOptions<T extends Closable = PGliteLike> {
  dataDir: string;
  /** Default true. Without locking the plain database comes back, open. */
  enableLocking?: boolean;
  lockOptions?: Omit<LockedOptions<T>, 'open'>;
  open?: LockedOptions<T>['open'];
}

type Method = (...args: unknown[]) => unknown;
type Methods = Record<string, Method>;

/** Who is inside a transaction of a database. */
interface Inside {
  database: object;
  tx: Methods;
}

const transactions = new AsyncLocalStorage<Inside>();

// How long a database stays open at most when nobody else waits, ms. To open a PGlite takes a quarter of a second.
const lingerDefault = 2000;

/** A database that is opened when its lock was acquired, and closed before that is released. */
class Database<T extends Closable> implements Resource {
  /** The names of the database's methods, known when it was open once. */
  readonly methods = new Set<string>();
  db?: T;
  done?: Promise<void>;
  private borrowed?: { db: Promise<T>; users: number };
  private returned: Promise<void> = Promise.resolve();
  private current: LockInfo | null = null;
  private readonly work = new Set<Promise<unknown>>();
  private readonly line: Line;
  private readonly lock: DatabaseLock;
  private readonly path: string;
  private readonly options: AcquireOptions;
  private readonly request: Request;

  constructor(
    options: LockedOptions<T>,
    readonly dataDir: string,
    private readonly opener: () => T | Promise<T>,
  ) {
    const { linger = lingerDefault, open: _, ...rest } = options;
    this.path = absolute(dataDir);
    this.options = { ...rest, process: options.process ?? options.processType ?? 'store-wrapper' };
    this.request = requestOf(this.path, this.options);
    this.lock = new DatabaseLock(this.path, this.options);
    this.line = Session.shared(options.binary).own(this.request, linger, this);
  }

  async open(): Promise<void> {
    this.db = await this.start();
  }

  async close(): Promise<void> {
    const { db } = this;
    this.abandon();
    await db?.close();
  }

  abandon(): void {
    this.db = undefined;
    this.current = null;
  }

  /** use runs fn with the open database, in the hold that there is or in a new one. */
  async use<R>(fn: (db: T, hold: Hold) => R | PromiseLike<R>): Promise<R> {
    const outer = enclosing(this.request);
    if (this.done && !outer) throw new DatabaseLockError('usage', 'the database is closed');
    const doing = outer ? this.under(lean(outer, this.request), fn) : this.enter(fn);
    this.work.add(doing);
    try {
      return await doing;
    } finally {
      this.work.delete(doing);
    }
  }

  /** call calls a method of the database; the calls in a transaction belong to it. */
  call(name: string, args: unknown[]): Promise<unknown> {
    const around = transactions.getStore();
    if (around?.database === this && typeof around.tx[name] === 'function') {
      return around.tx[name](...args) as Promise<unknown>; // the database would wait for the transaction's end
    }
    return this.use((db, hold) => {
      const method = (db as unknown as Methods)[name];
      if (name !== 'transaction') return method.apply(db, args);
      const [body, ...more] = args as [(tx: Methods) => unknown, ...unknown[]];
      return method.call(
        db,
        (tx: Methods) => {
          const guarded = guard(tx, hold);
          return transactions.run({ database: this, tx: guarded }, () => body(guarded));
        },
        ...more,
      );
    });
  }

  /** finish waits for what is at work, closes, and releases. */
  finish(): Promise<void> {
    return (this.done ??= (async () => {
      await Promise.allSettled(this.work);
      await this.line.retire();
    })());
  }

  isLocked(): Promise<{ locked: boolean; info?: LockInfo }> {
    return this.lock.isLocked();
  }

  forceUnlock(options?: { ifStale?: boolean }): Promise<Forced> {
    return this.lock.forceUnlock(options);
  }

  getLockInfo(): { path: string; current: LockInfo | null } {
    return { path: this.lock.getLockPath(), current: this.current };
  }

  private async start(): Promise<T> {
    const db = await this.opener();
    if (this.methods.size === 0) {
      for (let o: object = db; o && o !== Object.prototype; o = Object.getPrototypeOf(o)) {
        for (const name of Object.getOwnPropertyNames(o)) {
          if (typeof Object.getOwnPropertyDescriptor(o, name)?.value === 'function') this.methods.add(name);
        }
      }
      this.methods.delete('constructor');
    }
    return db;
  }

  private async enter<R>(fn: (db: T, hold: Hold) => R | PromiseLike<R>): Promise<R> {
    const hold = await this.line.enter(this.options);
    return inside(hold, this.path, () => {
      if (!this.db) throw hold.grant.lost; // in this moment
      this.current = hold.info;
      return fn(this.db, hold);
    });
  }

  // under runs fn in a hold that is there already: ours, or one that the program has taken itself. Under that one the
  // database is opened for those who use it now, since nobody tells when it ends.
  private under<R>(hold: Hold, fn: (db: T, hold: Hold) => R | PromiseLike<R>): Promise<R> {
    const { db } = this;
    if (db && this.line.holds(hold.grant)) return inside(hold, this.path, () => fn(db, hold));
    return inside(hold, this.path, async () => {
      const borrowed = (this.borrowed ??= { db: this.returned.then(() => this.start()), users: 0 });
      borrowed.users++;
      try {
        return await fn(await borrowed.db, hold);
      } finally {
        if (--borrowed.users === 0) {
          this.borrowed = undefined;
          const closing = borrowed.db.then((opened) => (hold.isLost ? undefined : opened.close()));
          this.returned = closing.then(
            () => {},
            () => {},
          );
          await closing;
        }
      }
    });
  }
}

// guard refuses what a transaction still wants to do when its lock was lost.
function guard(tx: Methods, hold: Hold): Methods {
  return new Proxy(tx, {
    get(_, name) {
      const value: unknown = Reflect.get(tx, name);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        if (hold.grant.lost && name !== 'rollback') return Promise.reject(hold.grant.lost);
        return (value as Method).apply(tx, args);
      };
    },
  });
}

/** transient: a database that is in nobody else's reach. */
function transient(dataDir: string | undefined): boolean {
  return !dataDir || dataDir === ':memory:' || /^(memory|idb|opfs-ahp):/.test(dataDir);
}

async function openPGlite(dataDir: string): Promise<any> {
  let PGlite: { create(dataDir: string): Promise<unknown> };
  try {
    ({ PGlite } = await import('@electric-sql/pglite'));
  } catch (error) {
    throw new DblockError('usage', '@electric-sql/pglite is not installed', 'npm install @electric-sql/pglite, or give `open`', error);
  }
  return PGlite.create(dataDir);
}

/**
 * Opens a PGlite, or what `open` opens, so that it is open in one process at a time: it is opened when the lock was acquired
 * and closed before it is released. Calls hold the lock one by one, transactions as a whole. Between calls
 * the database stays open for up to `linger` ms after the lock was acquired, until somebody else waits for it. Settings, temporary
 * tables, listeners and prepared statements go with each closing.
 *
 * It is opened once at the start, so that what is wrong with it shows here.
 */
export async function createLockedDatabase<T extends Closable = PGliteLike>(
  dataDir: string,
  options: LockedOptions<T> = {},
): Promise<LockedDatabase<T>> {
  if (transient(dataDir)) throw new DatabaseLockError('usage', `${dataDir} is in this process only: it needs no lock`);
  mkdirSync(dirname(absolute(dataDir)), { recursive: true });
  const open = options.open ?? (openPGlite as NonNullable<LockedOptions<T>['open']>);
  const database = new Database<T>(options, dataDir, () => open(dataDir));
  await database.use(() => {});

  const own: Record<string | symbol, unknown> = {
    use: database.use.bind(database),
    close: database.finish.bind(database),
    isLocked: database.isLocked.bind(database),
    forceUnlock: database.forceUnlock.bind(database),
    getLockInfo: database.getLockInfo.bind(database),
    waitReady: Promise.resolve(),
    dataDir,
    [Symbol.asyncDispose]: database.finish.bind(database),
    then: undefined,
  };
  const calls = new Map<string, Method>();
  return new Proxy({} as object, {
    get(_, name) {
      if (name in own) return own[name];
      if (name === 'closed') return database.done !== undefined;
      if (name === 'ready') return database.done === undefined;
      if (typeof name !== 'string' || !database.methods.has(name)) {
        return database.db && Reflect.get(database.db, name, database.db);
      }
      let call = calls.get(name);
      if (!call) calls.set(name, (call = (...args) => database.call(name, args)));
      return call;
    },
    has: (_, name) => name in own || (typeof name === 'string' && database.methods.has(name)),
  }) as LockedDatabase<T>;
}

/**
 * Opens a database: with locking, which is the default, as `createLockedDatabase` does; without, or where it is in memory
 * only, as it is.
 */
export async function createDatabase<T extends Closable = PGliteLike>(
  options: DatabaseOptions<T>,
): Promise<LockedDatabase<T> | T> {
  const { dataDir, enableLocking = true, lockOptions, open } = options;
  if (enableLocking && !transient(dataDir)) return createLockedDatabase<T>(dataDir, { ...lockOptions, open });
  return (open ?? (openPGlite as NonNullable<typeof open>))(dataDir);
}
