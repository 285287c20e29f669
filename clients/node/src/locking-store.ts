import { DatabaseLock } from './database-lock.js';
import type { LockInfo } from './errors.js';
import { absolute } from './names.js';
import type { AcquireOptions, Mode } from './options.js';
import type { Forced } from './session.js';
import { Session } from './session.js';

/** A name of a method, or the beginning of names and a star: `'get*'`. */
export type Pattern = string;

export interface StoreOptions<Unlocked extends string = string> extends Omit<AcquireOptions, 'mode' | 'shared'> {
  /** Methods during which others may read. What is not named anywhere is exclusive. */
  shared?: readonly Pattern[];
  /** Methods that are exclusive although a pattern of `shared` fits them. */
  exclusive?: readonly Pattern[];
  /** Methods that need no lock: they are called as they are. */
  unlocked?: readonly Unlocked[];
  /** The methods that run a function in a transaction. They are exclusive whatever `shared` says: one hold for all of it. */
  transaction?: string | readonly string[];
}

/** What a store has in addition when it is wrapped. */
export interface Locking<T> {
  /** Whether somebody, here or elsewhere, holds the lock. */
  isLocked(): Promise<{ locked: boolean; info?: LockInfo }>;
  /** Removes the lock, whoever holds it. */
  forceUnlock(options?: { ifStale?: boolean }): Promise<Forced>;
  /** The path of the lock file, and what it says while this store is at work. */
  getLockInfo(): { path: string; current: LockInfo | null };
  /** The store itself. Its methods do not lock. */
  getInnerStore(): T;
}

/** A store whose methods hold the lock. They all return promises; what is a property stays one. */
export type Locked<T, Unlocked extends string = never> = Locking<T> & {
  [K in keyof T]: K extends Unlocked
    ? T[K]
    : T[K] extends (...args: infer A) => infer R
      ? (...args: A) => R extends PromiseLike<unknown> ? R : Promise<R>
      : T[K];
};

type Method = (...args: unknown[]) => unknown;

function matches(patterns: readonly Pattern[] | undefined, name: string): boolean {
  return !!patterns?.some((p) => (p.endsWith('*') ? name.startsWith(p.slice(0, -1)) : p === name));
}

/** modeOf is how a method is locked. An exact name weighs more than a pattern, and the stricter list more than the other. */
function modeOf(name: string, options: StoreOptions): Mode | 'none' {
  const { unlocked, exclusive, shared, transaction = [] } = options;
  if (typeof transaction === 'string' ? transaction === name : transaction.includes(name)) return 'exclusive';
  if (exclusive?.includes(name)) return 'exclusive';
  if (shared?.includes(name)) return 'shared';
  if (unlocked?.includes(name)) return 'none';
  if (matches(exclusive, name)) return 'exclusive';
  if (matches(shared, name)) return 'shared';
  return matches(unlocked, name) ? 'none' : 'exclusive';
}

/** Locker runs the calls of one store under the lock. */
class Locker<T extends object> implements Locking<T> {
  private readonly running: LockInfo[] = [];
  private readonly lock: DatabaseLock;
  private readonly session: Session;
  private readonly options: AcquireOptions;

  constructor(
    private readonly store: T,
    private readonly db: string,
    options: AcquireOptions,
  ) {
    this.options = { ...options, process: options.process ?? options.processType ?? 'store-wrapper' };
    this.lock = new DatabaseLock(db, this.options);
    this.session = Session.shared(options.binary);
  }

  async call(mode: Mode, method: Method, args: unknown[]): Promise<unknown> {
    return this.session.run(this.db, { ...this.options, mode }, async (hold) => {
      const { info } = hold;
      this.running.push(info);
      try {
        return await method.apply(this.store, args);
      } finally {
        this.running.splice(this.running.indexOf(info), 1);
      }
    });
  }

  isLocked = (): Promise<{ locked: boolean; info?: LockInfo }> => this.lock.isLocked();
  forceUnlock = (options?: { ifStale?: boolean }): Promise<Forced> => this.lock.forceUnlock(options);
  getLockInfo = (): { path: string; current: LockInfo | null } => ({
    path: this.lock.getLockPath(),
    current: this.running[0] ?? null,
  });
  getInnerStore = (): T => this.store;
}

const own = new Set<string | symbol>(['isLocked', 'forceUnlock', 'getLockInfo', 'getInnerStore']);
const wrapped = new WeakSet<object>();

/**
 * Wraps a store: each of its methods acquires the lock of the database, runs, and releases it. A method that calls others of
 * the wrapped store, as a transaction does, holds the lock once for all of them.
 *
 * The lock is held until the promise of a method is settled. What a method hands out for later, such as a cursor, a stream or a
 * prepared statement, is not locked when it is used.
 */
export function lockingStore<T extends object, const U extends string = never>(
  store: T,
  db: string | URL,
  options: StoreOptions<U> = {},
): Locked<T, U> {
  const { shared: _s, exclusive: _e, unlocked: _u, transaction: _t, ...acquire } = options;
  const locker = new Locker(store, absolute(db), acquire);
  const methods = new Map<string | symbol, { method: Method; locked: Method }>();

  const get = (name: string | symbol): unknown => {
    if (own.has(name)) return locker[name as keyof Locking<T>];
    const value = Reflect.get(store, name, store) as unknown;
    if (typeof value !== 'function' || name === 'constructor' || name === 'then') return value;
    const known = methods.get(name);
    if (known?.method === value) return known.locked;
    const method = value as Method;
    const mode =
      typeof name === 'string' ? modeOf(name, options) : name === Symbol.asyncDispose ? 'exclusive' : 'none';
    const locked: Method =
      mode === 'none' ? (...args) => method.apply(store, args) : (...args) => locker.call(mode, method, args);
    methods.set(name, { method, locked });
    return locked;
  };

  // The target is a stand-in: of a frozen store, a Proxy may not say anything else than what it is.
  const proxy = new Proxy(Object.create(Object.getPrototypeOf(store)) as object, {
    get: (_, name) => get(name),
    set: (_, name, value) => Reflect.set(store, name, value, store),
    has: (_, name) => own.has(name) || Reflect.has(store, name),
    deleteProperty: (_, name) => Reflect.deleteProperty(store, name),
    ownKeys: () => Reflect.ownKeys(store),
    getOwnPropertyDescriptor: (_, name) => {
      const found = Reflect.getOwnPropertyDescriptor(store, name);
      return found && { value: get(name), writable: true, enumerable: found.enumerable, configurable: true };
    },
  });
  wrapped.add(proxy);
  return proxy as Locked<T, U>;
}

/** The same as `lockingStore`, as a class: `new LockingStore(store, 'data/app.db', { processType: 'cli' })`. */
export const LockingStore = class LockingStore {
  constructor(store: object, db: string | URL, options: StoreOptions = {}) {
    return lockingStore(store, db, options) as unknown as LockingStore;
  }

  static [Symbol.hasInstance](value: unknown): boolean {
    return typeof value === 'object' && value !== null && wrapped.has(value);
  }
} as unknown as {
  new <T extends object, const U extends string = never>(store: T, db: string | URL, options?: StoreOptions<U>): Locked<T, U>;
};
