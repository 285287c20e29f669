import { basename } from 'node:path';
import type { Holder } from './errors.js';
import { DatabaseLockError } from './errors.js';
import { absolute } from './names.js';

export type Mode = 'exclusive' | 'shared';

/** What a wait looks like from outside, told after 200 ms and then at most once a second. */
export interface Waiting {
  db: string;
  lockFile: string;
  /** Who has the lock at present. */
  holder?: Holder;
  /** How many are ahead in the queue. */
  ahead?: number;
  waitedMs: number;
}

/** The options of the original `DatabaseLock`. */
export interface LockOptions {
  /** With `retryDelay`: how long to wait at most, which is their product. Nothing is polled. Default 50. */
  maxRetries?: number;
  /** Milliseconds; see `maxRetries`. Default 100. */
  retryDelay?: number;
  /**
   * From which age, in milliseconds, a lock counts as abandoned whose owner cannot be seen. Default 30000; less than 1000
   * is taken as 1000.
   */
  staleTimeout?: number;
  /** The label that others see. */
  processType?: string;
}

export interface AcquireOptions extends LockOptions {
  /** Readers share the lock with each other. The same as `mode: 'shared'`. */
  shared?: boolean;
  mode?: Mode;
  /**
   * How long to wait: milliseconds, `Infinity`, a text such as `'90s'` or `'5m'`, `'forever'`; 0 does not wait.
   * Default: `maxRetries` times `retryDelay`, 5000.
   */
  wait?: number | string;
  /** Ends a wait; the acquire rejects with the signal's reason. What has been acquired is not touched. */
  signal?: AbortSignal;
  /**
   * For how many milliseconds after it was acquired the lock may be kept when the work is done, to be used again
   * by the next one that wants the same. It is given up as soon as somebody else waits. Default 0.
   */
  linger?: number;
  priority?: 'low' | 'normal' | 'high';
  /** The label that others see. Default: DBLOCK_PROCESS, or the name of the main script. */
  process?: string;
  /** A reason or an address for those who look who holds the lock. */
  info?: string;
  /** The lock file, where it is not the one that belongs to the database's name. */
  lockFile?: string;
  /** `age` takes the lock from any program outside of dblock that is older than `staleTimeout`, alive or not. */
  stale?: 'dead' | 'age';
  /** How long a hold may last: milliseconds, or a text such as `'90s'`. What happens then `onTimeLimit` says. */
  timeLimit?: number | string;
  /**
   * `term`, the default, ends this program and what it has started, and kills them after 10 s; `kill` does that at
   * once; with `warn` it goes on, and `onOverdue` is told.
   */
  onTimeLimit?: 'term' | 'kill' | 'warn';
  /** Is told once when the hold has lasted for `timeLimit`. */
  onOverdue?: () => void;
  /** Is told while the lock is waited for. */
  onWaiting?: (waiting: Waiting) => void;
  /** Is told once when somebody else waits for the lock that is held. */
  onWanted?: () => void;
  /** The dblock binary. Default: DBLOCK_BINARY, the package for this system, PATH. */
  binary?: string;
}

/** What is asked of the session; the names are those of the wire. */
export interface Request {
  db: string;
  lock_file?: string;
  mode: Mode;
  priority?: string;
  process?: string;
  info?: string;
  stale_timeout?: string;
  stale?: string;
  wanted?: boolean;
  time_limit?: number | 'forever';
  on_time_limit?: string;
}

const units: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

function milliseconds(value: number | string, name: string): number {
  if (typeof value === 'number') {
    if (value >= 0) return value;
  } else if (value === 'forever') {
    return Infinity;
  } else {
    const [, number, unit = 's'] = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(value) ?? [];
    if (number !== undefined) return Number(number) * units[unit];
  }
  throw new DatabaseLockError('usage', `${name} cannot be ${JSON.stringify(value)}`, 'milliseconds, or a text such as 90s');
}

/** waitOf is how long to wait, in milliseconds. */
export function waitOf(options: AcquireOptions): number {
  if (options.wait !== undefined) return milliseconds(options.wait, 'wait');
  return milliseconds((options.maxRetries ?? 50) * (options.retryDelay ?? 100), 'maxRetries times retryDelay');
}

/** wireWait is a wait as the session reads it. */
export function wireWait(ms: number): number | 'forever' {
  return ms === Infinity ? 'forever' : Math.max(0, ms) / 1000;
}

let label: string | undefined;

// labelOf is left to the session where the user has set DBLOCK_PROCESS.
function labelOf(options: AcquireOptions): string | undefined {
  const given = options.process ?? options.processType;
  if (given !== undefined) return given;
  if (process.env.DBLOCK_PROCESS) return undefined;
  return (label ??= basename(process.argv[1] ?? 'node').replace(/(.)\.[^.]*$/, '$1'));
}

/** requestOf is the part of an acquire that says what is wanted, and not for how long to wait. */
export function requestOf(db: string | URL, options: AcquireOptions): Request {
  const request: Request = { db: absolute(db), mode: options.mode ?? (options.shared ? 'shared' : 'exclusive') };
  const process = labelOf(options);
  if (process !== undefined) request.process = process;
  if (options.lockFile !== undefined) request.lock_file = absolute(options.lockFile);
  if (options.priority !== undefined) request.priority = options.priority;
  if (options.info !== undefined) request.info = options.info;
  if (options.staleTimeout !== undefined) request.stale_timeout = `${Math.max(1000, options.staleTimeout) / 1000}s`;
  if (options.stale !== undefined) request.stale = options.stale;
  if (options.timeLimit !== undefined) request.time_limit = wireWait(milliseconds(options.timeLimit, 'timeLimit'));
  if (options.onTimeLimit !== undefined) request.on_time_limit = options.onTimeLimit;
  return request;
}

/** keyOf is the same for requests that can use one hold after another. */
export function keyOf(r: Request, linger: number): string {
  return `${r.mode}\0${linger}\0${r.lock_file ?? ''}\0${r.process ?? ''}\0${r.priority ?? ''}\0${r.info ?? ''}\0${r.stale_timeout ?? ''}\0${r.stale ?? ''}\0${r.time_limit ?? ''}\0${r.on_time_limit ?? ''}`;
}
