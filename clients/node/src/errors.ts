/** Who has a lock, as far as it is known. */
export interface Holder {
  pid: number;
  /** The label that it goes by: `cli`, `mcp-server`, `backup`. */
  process: string;
  host: string;
  /** The program that it runs. */
  command?: string;
  /** What it wants others to know. */
  info?: string;
  /** How long it has had the lock, in milliseconds. */
  heldMs?: number;
}

/** The four members that every lock file has. */
export interface LockInfo {
  /** The process that holds the lock: for a program that uses this package, its co-process. */
  pid: number;
  /** Its last sign of life, in milliseconds since the epoch. */
  timestamp: number;
  host: string;
  process: string;
}

/** How a problem looks on the wire. */
export interface Problem {
  code: string;
  message: string;
  hint?: string;
  holder?: { pid: number; process: string; host: string; command?: string; info?: string; held_ms?: number };
  waited_ms?: number;
  ahead?: number;
}

/** The parent of all errors of this package. Tell them apart by `code`. */
export class DblockError extends Error {
  /**
   * `held`, `lost`, `not-found`, `session` (the co-process ended), or what the session says:
   * `usage`, `permission`, `cannot-create`, `orphan`, `upgrade`, `name`, `no-hold`, `cancelled`, `bad-line`, `unreachable`, `fault`.
   */
  readonly code: string;
  /** What can be done, if something can. */
  readonly hint?: string;

  constructor(code: string, message: string, hint?: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.code = code;
    if (hint !== undefined) this.hint = hint;
  }
}

/** Something went wrong with a lock. */
export class DatabaseLockError extends DblockError {
  /** Who is in the way, if somebody is. */
  readonly lockInfo?: LockInfo;

  constructor(code: string, message: string, hint?: string, lockInfo?: LockInfo) {
    super(code, message, hint);
    if (lockInfo !== undefined) this.lockInfo = lockInfo;
  }
}

/** The lock was not had in time: somebody else holds it. */
export class LockHeldError extends DatabaseLockError {
  readonly holder?: Holder;
  /** How long it was waited for, in milliseconds. */
  readonly waitedMs: number;
  /** How many were ahead in the queue, if that is known. */
  readonly ahead?: number;

  constructor(details: { holder?: Holder; waitedMs?: number; ahead?: number; hint?: string; message?: string }) {
    const { holder } = details;
    const who = holder ? `${holder.process} (PID: ${holder.pid})` : 'another process';
    super(
      'held',
      details.message ?? `Database is currently in use by ${who}. Please try again in a moment.`,
      details.hint,
      holder && {
        pid: holder.pid,
        timestamp: Date.now() - Math.round(holder.heldMs ?? 0),
        host: holder.host,
        process: holder.process,
      },
    );
    if (holder) this.holder = holder;
    this.waitedMs = details.waitedMs ?? 0;
    if (details.ahead !== undefined) this.ahead = details.ahead;
  }
}

/** The lock was taken away while it was held: somebody else may have worked on the database. */
export class LockLostError extends DatabaseLockError {
  constructor(message: string, hint?: string) {
    super('lost', message, hint);
  }
}

/** There is no dblock binary, or none that can serve. */
export class DblockNotFoundError extends DblockError {
  constructor(problem: string, cause?: unknown) {
    const hint =
      'install dblock (`sh install.sh` in a checkout of it) so that it is on PATH, or set DBLOCK_BINARY to its path';
    super('not-found', `${problem}; ${hint}`, hint, cause);
  }
}

/** holderOf gives a holder as the wire has it the names that it has here. */
export function holderOf(wire: Problem['holder']): Holder | undefined {
  if (!wire) return undefined;
  const holder: Holder = { pid: wire.pid, process: wire.process, host: wire.host };
  if (wire.command) holder.command = wire.command;
  if (wire.info) holder.info = wire.info;
  if (wire.held_ms !== undefined) holder.heldMs = wire.held_ms;
  return holder;
}

/** errorOf makes an error of a problem. */
export function errorOf(problem: Problem): DatabaseLockError {
  switch (problem.code) {
    case 'held': {
      const holder = holderOf(problem.holder);
      return new LockHeldError({ holder, waitedMs: problem.waited_ms, ahead: problem.ahead, hint: problem.hint });
    }
    case 'lost':
      return new LockLostError(problem.message, problem.hint);
    default:
      return new DatabaseLockError(problem.code, problem.message, problem.hint);
  }
}
