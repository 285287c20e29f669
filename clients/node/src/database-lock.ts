import { EventEmitter } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseLockError, LockHeldError } from './errors.js';
import type { LockInfo, LockLostError } from './errors.js';
import type { Hold } from './hold.js';
import { absolute, lockPath } from './names.js';
import type { AcquireOptions, Waiting } from './options.js';
import { waitOf } from './options.js';
import type { Forced } from './session.js';
import { Session } from './session.js';

export interface DatabaseLock {
  on(event: 'lost', listener: (error: LockLostError) => void): this;
  on(event: 'waiting', listener: (waiting: Waiting) => void): this;
  once(event: 'lost', listener: (error: LockLostError) => void): this;
  once(event: 'waiting', listener: (waiting: Waiting) => void): this;
}

/**
 * The lock of one database, with the methods, options and defaults of the class of the same name that invented the lock
 * file. Events: `lost`, with a LockLostError, when the lock is taken away while it is held; `waiting`, with a
 * Waiting, while it is waited for.
 */
export class DatabaseLock extends EventEmitter {
  private readonly db: string;
  private readonly options: AcquireOptions;
  private readonly session: Session;
  private readonly holds: Hold[] = [];

  constructor(databasePath: string | URL, options: AcquireOptions = {}) {
    super();
    this.db = absolute(databasePath);
    this.options = { ...options, process: options.process ?? options.processType ?? 'unknown' };
    this.session = Session.shared(options.binary);
  }

  /**
   * Acquires the lock. Rejects with a LockHeldError, a DatabaseLockError, if it was not had in `maxRetries` times `retryDelay`,
   * 5 s. The directory of the database is made if it is missing.
   */
  async acquire(options: { signal?: AbortSignal } = {}): Promise<void> {
    const wanted = { ...this.options, ...options };
    if (this.listenerCount('waiting') > 0) {
      wanted.onWaiting = (waiting) => {
        this.options.onWaiting?.(waiting);
        this.emit('waiting', waiting);
      };
    }
    let hold: Hold;
    try {
      hold = await this.session.acquire(this.db, wanted);
    } catch (error) {
      hold = await this.second(error, wanted);
    }
    this.holds.push(hold);
    hold.onLost((error) => this.emit('lost', error));
  }

  /** Releases the lock. Rejects with a LockLostError if it had been lost before, and if it was not acquired here. */
  async release(): Promise<void> {
    const hold = this.holds.pop();
    if (!hold) throw new DatabaseLockError('no-hold', 'Cannot release lock that was not acquired by this instance');
    await hold.release();
  }

  /** Whether somebody, here or elsewhere, holds the lock. */
  async isLocked(): Promise<{ locked: boolean; info?: LockInfo }> {
    const status = await this.session.status(this.db, this.options);
    const { holder } = status;
    if (!status.locked || status.stale) return { locked: false };
    if (!holder) return { locked: true };
    const { pid, timestamp, host, process } = holder;
    return { locked: true, info: { pid, timestamp, host, process } };
  }

  /**
   * Removes the lock, whoever holds it: a live dblock holder on this machine is ended. With `ifStale`, only
   * one that is stale.
   */
  async forceUnlock(options: { ifStale?: boolean } = {}): Promise<Forced> {
    let own = false;
    if (!options.ifStale) {
      for (const hold of this.holds.splice(0)) {
        own = true;
        await hold.release().catch(() => {});
      }
    }
    const { lockFile } = this.options;
    const forced = await this.session.force(this.db, { lockFile, yes: !options.ifStale, ifStale: options.ifStale });
    return own ? { ...forced, removed: true } : forced;
  }

  /** What the lock file says while this instance holds the lock, else null. */
  getLockInfo(): LockInfo | null {
    return this.holds[this.holds.length - 1]?.info ?? null;
  }

  /** The path of the lock file. */
  getLockPath(): string {
    return lockPath(this.db, this.options.lockFile);
  }

  /** The hold that `acquire` has brought, if it was not released yet: its token, its environment, its signal. */
  get hold(): Hold | undefined {
    return this.holds[this.holds.length - 1];
  }

  /** Releases what is held, if anything is. */
  async [Symbol.asyncDispose](): Promise<void> {
    while (this.holds.length > 0) await this.release();
  }

  // second tries again where the directory was missing, and gives a timeout its message.
  private async second(error: unknown, options: AcquireOptions): Promise<Hold> {
    if (error instanceof LockHeldError) {
      const { holder, waitedMs, ahead, hint } = error;
      const wait = waitOf(options);
      const tries = options.wait === undefined ? ` (${options.maxRetries ?? 50} retries)` : '';
      const who = holder ? `: it is held by ${holder.process} (PID: ${holder.pid})` : '';
      const message = `Failed to acquire database lock after ${wait / 1000}s timeout${tries}${who}`;
      throw new LockHeldError({ holder, waitedMs, ahead, hint, message });
    }
    const dir = dirname(this.getLockPath());
    if (!(error instanceof DatabaseLockError) || error.code === 'usage' || existsSync(dir)) throw error;
    await mkdir(dir, { recursive: true });
    return this.session.acquire(this.db, options);
  }
}
