import { findBinary } from './binary.js';
import { Connection } from './connection.js';
import type { Answer } from './connection.js';
import { DblockError, errorOf, LockLostError } from './errors.js';
import type { Granted } from './grant.js';
import { Grant } from './grant.js';
import type { Hold } from './hold.js';
import { Use } from './hold.js';
import type { Resource } from './line.js';
import { Line } from './line.js';
import { absolute, lockPath } from './names.js';
import type { AcquireOptions, Request, Waiting } from './options.js';
import { keyOf, requestOf, waitOf, wireWait } from './options.js';
import { enclosing, lean, within } from './scope.js';

export interface SessionOptions {
  /** The dblock binary. Default: DBLOCK_BINARY, the package for this system, PATH. */
  binary?: string;
  /** Flags of `dblock session`, the defaults for what an acquire does not say. */
  args?: readonly string[];
}

/** What `dblock status --json` says; see its manual. */
export interface Status {
  state: string;
  locked: boolean;
  stale: boolean;
  lock_file: string;
  database?: string;
  id?: string;
  age_ms: number;
  evidence?: string;
  holder: {
    pid: number;
    host: string;
    process: string;
    timestamp: number;
    mode?: string;
    token?: number;
    acquired?: number;
    command?: string;
    info?: string;
  } | null;
  waiting: { pid: number; host?: string; process?: string; mode: string; priority: string; for_ms: number }[];
  [more: string]: unknown;
}

/** Which lock: the database, or a lock file with another name than its own. */
export interface Which {
  lockFile?: string;
}

export interface ForceOptions extends Which {
  /** Ends a live holder, too. */
  yes?: boolean;
  /** Removes only a lock that is stale. */
  ifStale?: boolean;
  /** Removes only this lock, as `status` told its id. */
  id?: string;
}

export interface Forced {
  removed: boolean;
  /** The processes that were ended. */
  ended: number[];
  /** The process of a holder outside of dblock that goes on without its lock; 0 if there is none. */
  running: number;
}

// How often an acquire is sent again to a new session when the old one has died under it.
const tries = 3;

const shared = new Map<string, Session>();

/**
 * A co-process that holds locks for this program: `dblock session`. It is started when it is needed first, and again
 * when it has died, and ends with this program, however that ends. It beats for the locks while the event loop is blocked.
 */
export class Session {
  private readonly options: SessionOptions;
  private connection?: Connection;
  private readonly lines = new Map<string, Map<string, Line>>();

  constructor(options: SessionOptions = {}) {
    this.options = options;
  }

  /** The session that all share who name the same binary. */
  static shared(binary?: string): Session {
    const key = binary ?? process.env.DBLOCK_BINARY ?? '';
    let session = shared.get(key);
    if (!session) shared.set(key, (session = new Session(binary === undefined ? {} : { binary })));
    return session;
  }

  /** The process id of the co-process, if it runs. */
  get pid(): number | undefined {
    return this.connection?.dead ? undefined : this.connection?.pid;
  }

  /** Acquires the lock of a database. Inside of a hold of it that is in force, it is used. */
  async acquire(db: string | URL, options: AcquireOptions = {}): Promise<Hold> {
    const request = requestOf(db, options);
    const outer = enclosing(request);
    if (outer) return lean(outer, request);
    if (options.signal?.aborted) throw options.signal.reason;
    const { linger } = options;
    if (linger) return this.line(request, linger).enter(options);
    this.yield(request.db);
    const grant = await this.take(request, waitOf(options), options.signal, options.onWaiting, options);
    return new Use(grant, () => grant.finish()).hold();
  }

  /** Runs fn while the lock is held. */
  async run<T>(db: string | URL, options: AcquireOptions, fn: (hold: Hold) => T | PromiseLike<T>): Promise<T> {
    const hold = await this.acquire(db, options);
    return inside(hold, absolute(db), fn);
  }

  /** Who holds the lock, since when, who waits. */
  async status(db: string | URL, which: Which = {}): Promise<Status> {
    const answer = await this.ask('status', wire(db, which));
    return answer.status as Status;
  }

  /** Removes a lock that is stuck. Without `yes` a live holder is left alone, and a LockHeldError says who it is. */
  async force(db: string | URL, options: ForceOptions = {}): Promise<Forced> {
    const body: Record<string, unknown> = wire(db, options);
    if (options.yes) {
      body.yes = true;
      this.revoke(lockPath(absolute(db), options.lockFile));
    }
    if (options.ifStale) body.if_stale = true;
    if (options.id !== undefined) body.lock_id = options.id;
    const answer = await this.ask('force', body);
    return { removed: answer.removed, ended: answer.ended ?? [], running: answer.running ?? 0 };
  }

  async ping(): Promise<void> {
    await this.ask('ping', {});
  }

  /** Ends the co-process. What is held is released and counts as lost. The next use starts another one. */
  async close(): Promise<void> {
    await this.connection?.close();
  }

  /** @internal takes the lock, as a stranger to all others here. */
  async take(
    request: Request,
    wait: number,
    signal?: AbortSignal,
    onWaiting?: (waiting: Waiting) => void,
    told: Pick<AcquireOptions, 'onWanted' | 'onOverdue'> = {},
  ): Promise<Grant> {
    const deadline = performance.now() + wait;
    for (let attempt = 1; ; attempt++) {
      const connection = this.connect();
      let id = 0;
      const abort = (): void => connection.cancel(id);
      try {
        const answer = await connection.request(
          'acquire',
          {
            ...request,
            wait: wireWait(attempt === 1 ? wait : deadline - performance.now()),
            ...(told.onWanted && { wanted: true }),
            ...(onWaiting && { events: true }),
          },
          (given) => {
            id = given;
            signal?.addEventListener('abort', abort);
          },
          onWaiting,
        );
        if (answer.ok) {
          const grant = new Grant(connection, answer as unknown as Granted);
          grant.onWanted = told.onWanted;
          grant.onOverdue = told.onOverdue;
          if (!signal?.aborted) return grant;
          await grant.finish().catch(() => {});
        }
        if (signal?.aborted) throw signal.reason;
        if (!answer.ok) throw errorOf(answer.error);
      } catch (error) {
        if (!(error instanceof DblockError) || error.code !== 'session' || connection.closing || attempt === tries) throw error;
      } finally {
        signal?.removeEventListener('abort', abort);
      }
    }
  }

  /** @internal makes a line of its own, with something that is open while the lock is held. */
  own(request: Request, linger: number, resource: Resource): Line {
    return this.add(request, `own ${lastOwn++}`, linger, resource);
  }

  /** @internal has those who linger on this database give it up, except one. */
  yield(db: string, except?: Line): void {
    const lines = this.lines.get(db);
    if (lines) for (const line of [...lines.values()]) if (line !== except) line.surrender();
  }

  private line(request: Request, linger: number): Line {
    const key = keyOf(request, linger);
    return this.lines.get(request.db)?.get(key) ?? this.add(request, key, linger);
  }

  private add(request: Request, key: string, linger: number, resource?: Resource): Line {
    let lines = this.lines.get(request.db);
    if (!lines) this.lines.set(request.db, (lines = new Map()));
    const line = new Line(this, request, linger, resource, () => {
      lines.delete(key);
      if (lines.size === 0) this.lines.delete(request.db);
    });
    lines.set(key, line);
    return line;
  }

  // revoke ends the holds of this very session: the session itself would be ended otherwise.
  private revoke(lockFile: string): void {
    for (const grant of [...(this.connection?.held ?? [])]) {
      if (grant.answer.lock_file !== lockFile) continue;
      grant.lose(new LockLostError('The lock was lost: it was removed by force'));
      grant.finish().catch(() => {});
    }
  }

  private connect(): Connection {
    if (this.connection && !this.connection.dead && !this.connection.closing) return this.connection;
    return (this.connection = new Connection(findBinary(this.options.binary), this.options.args ?? []));
  }

  private async ask(op: string, body: object): Promise<Extract<Answer, { ok: true }>> {
    for (let attempt = 1; ; attempt++) {
      const connection = this.connect();
      try {
        const answer = await connection.request(op, body);
        if (!answer.ok) throw errorOf(answer.error);
        return answer;
      } catch (error) {
        if (!(error instanceof DblockError) || error.code !== 'session' || connection.closing || attempt === tries) throw error;
      }
    }
  }
}

let lastOwn = 0;

function wire(db: string | URL, which: Which): Record<string, unknown> {
  const body: Record<string, unknown> = { db: absolute(db) };
  if (which.lockFile !== undefined) body.lock_file = absolute(which.lockFile);
  return body;
}

/** inside runs fn in a hold and releases it. That the lock was lost is an error, even if fn succeeded. */
export async function inside<T>(hold: Hold, db: string, fn: (hold: Hold) => T | PromiseLike<T>): Promise<T> {
  let result: T;
  try {
    result = await within(hold, db, () => fn(hold));
  } catch (error) {
    await hold.release().catch(() => {}); // what fn says is more to the point
    throw error;
  }
  await hold.release();
  return result;
}

/**
 * Acquires the lock of a database.
 *
 *     const hold = await acquire('data/app.db');
 *     try { ... } finally { await hold.release(); }
 */
export function acquire(db: string | URL, options: AcquireOptions = {}): Promise<Hold> {
  return Session.shared(options.binary).acquire(db, options);
}

/**
 * Runs fn while the lock of a database is held. In it, and in what it calls, the lock counts as held: to ask for it once
 * more neither waits nor releases.
 */
export function withDatabaseLock<T>(
  db: string | URL,
  options: AcquireOptions,
  fn: (hold: Hold) => T | PromiseLike<T>,
): Promise<T> {
  return Session.shared(options.binary).run(db, options, fn);
}
