import type { LockInfo, Problem } from './errors.js';
import { errorOf, LockLostError } from './errors.js';
import type { Connection } from './connection.js';
import type { Mode } from './options.js';

/** The answer to an acquire, as the wire has it. */
export interface Granted {
  hold: number;
  db: string;
  lock_file: string;
  mode: Mode;
  token: number;
  pid: number;
  host: string;
  process: string;
  timestamp: number;
  waited_ms: number;
  nested: boolean;
  env: Record<string, string>;
}

/**
 * A lock that the session holds for us. Several holds can use it: those inside it, and with
 * lingering those after one another.
 */
export class Grant {
  lost?: LockLostError;
  /** Somebody else waits for it. */
  wanted = false;
  onWanted?: () => void;
  onOverdue?: () => void;
  private listeners?: Set<(error: LockLostError) => void>;
  private referenced = true;
  private over = false;

  constructor(
    readonly connection: Connection,
    readonly answer: Granted,
  ) {
    connection.granted(this);
  }

  get info(): LockInfo {
    const { pid, timestamp, host, process } = this.answer;
    return { pid, timestamp, host, process };
  }

  /** whenLost calls listener when the lock is lost, at once if it was. The function that comes back forgets it. */
  whenLost(listener: (error: LockLostError) => void): () => void {
    if (this.lost) {
      listener(this.lost);
      return () => {};
    }
    const listeners = (this.listeners ??= new Set());
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  lose(error: LockLostError): void {
    if (this.lost || this.over) return;
    this.lost = error;
    const { listeners } = this;
    this.listeners = undefined;
    if (listeners) for (const listener of listeners) listener(error);
  }

  want(): void {
    if (this.wanted || this.over) return;
    this.wanted = true;
    this.onWanted?.();
  }

  /** A held lock keeps the program alive, unless it says otherwise. */
  ref(): void {
    if (this.referenced || this.over) return;
    this.referenced = true;
    this.connection.ref();
  }

  unref(): void {
    if (!this.referenced || this.over) return;
    this.referenced = false;
    this.connection.unref();
  }

  /** check asks the session to look whether the lock is still held. */
  async check(): Promise<void> {
    if (this.lost) throw this.lost;
    const answer = await this.connection.request('check', { hold: this.answer.hold }).catch((error) => {
      throw this.lost ?? error; // with the session the lock has gone
    });
    if (!answer.ok) throw this.fail(answer.error);
  }

  /** finish gives the lock back. It is over in any case; the error tells that it had been lost before. */
  async finish(): Promise<void> {
    if (this.over) {
      if (this.lost) throw this.lost;
      return;
    }
    this.unref();
    this.over = true;
    this.connection.finished(this);
    if (this.connection.dead) {
      if (this.lost) throw this.lost;
      return;
    }
    const answer = await this.connection.request('release', { hold: this.answer.hold });
    if (!answer.ok) throw this.fail(answer.error);
    if (this.lost) throw this.lost;
  }

  private fail(problem: Problem): Error {
    const error = errorOf(problem);
    if (!(error instanceof LockLostError)) return error;
    if (this.lost) return this.lost;
    if (this.over) this.lost = error;
    else this.lose(error);
    return error;
  }
}
