export { acquire, Session, withDatabaseLock } from './session.js';
export type { Forced, ForceOptions, SessionOptions, Status, Which } from './session.js';
export { Hold } from './hold.js';
export { DatabaseLock } from './database-lock.js';
export { LockingStore, lockingStore } from './locking-store.js';
export type { Locked, Locking, Pattern, StoreOptions } from './locking-store.js';
export { createDatabase, createLockedDatabase } from './pglite.js';
export type { Closable, DatabaseOptions, LockedDatabase, LockedOptions, PGliteLike } from './pglite.js';
export {
  DatabaseLockError,
  DblockError,
  DblockNotFoundError,
  LockHeldError,
  LockLostError,
} from './errors.js';
export type { Holder, LockInfo } from './errors.js';
export type { AcquireOptions, LockOptions, Mode, Waiting } from './options.js';
