import type { LockInfo, LockLostError } from './errors.js';
import type { Grant } from './grant.js';
import type { Mode } from './options.js';

/**
 * One use of a grant: a hold and those that lean on it. It ends with the last of them, so that what runs
 * inside a hold keeps its lock when the outer one is released first.
 */
export class Use {
  private holds = 0;

  constructor(
    readonly grant: Grant,
    private readonly end: () => Promise<void>,
  ) {}

  hold(nested = this.grant.answer.nested): Hold {
    this.holds++;
    return new Hold(this, nested);
  }

  async leave(): Promise<void> {
    if (--this.holds === 0) await this.end();
    else if (this.grant.lost) throw this.grant.lost;
  }
}

/** A lock that is held. */
export class Hold {
  private released?: Promise<void>;
  private abort?: AbortController;
  private losing?: Promise<LockLostError>;

  /** @internal */
  readonly grant: Grant;

  /** @internal */
  constructor(
    private readonly use: Use,
    /** Whether it uses a hold that was there around it, in this program or in the one that runs it. */
    readonly nested: boolean,
  ) {
    this.grant = use.grant;
  }

  /** The database, by its real path. */
  get db(): string {
    return this.grant.answer.db;
  }

  get lockFile(): string {
    return this.grant.answer.lock_file;
  }

  get mode(): Mode {
    return this.grant.answer.mode;
  }

  /** The fencing number: larger with each acquisition of this lock, whoever acquires it. */
  get token(): number {
    return this.grant.answer.token;
  }

  /** How long it was waited for, in milliseconds. */
  get waitedMs(): number {
    return this.grant.answer.waited_ms;
  }

  /** What the lock file says of the holder, which is this program's co-process. */
  get info(): LockInfo {
    return this.grant.info;
  }

  /** What to add to the environment of a child that works under this hold. A dblock in it then uses this lock. */
  get env(): Record<string, string> {
    return this.grant.answer.env;
  }

  /** Whether it has been released. */
  get done(): boolean {
    return this.released !== undefined;
  }

  /** Whether it was lost, as far as it is known by now; `check` looks. */
  get isLost(): boolean {
    return this.grant.lost !== undefined;
  }

  /** Resolves when the lock is lost while it is held, with the error that says why. It never rejects. */
  get lost(): Promise<LockLostError> {
    return (this.losing ??= new Promise((resolve) => this.onLost(resolve)));
  }

  /** Is aborted when the lock is lost while it is held; its reason is the LockLostError. */
  get signal(): AbortSignal {
    if (!this.abort) {
      const abort = (this.abort = new AbortController());
      this.onLost((error) => abort.abort(error));
    }
    return this.abort.signal;
  }

  /** Looks at once whether the lock is still held; rejects with a LockLostError if not. */
  check(): Promise<void> {
    return this.grant.check();
  }

  /**
   * Gives the lock back. Resolves when it is free for others; rejects with a LockLostError if it had been lost
   * before. To release twice is the same as once.
   */
  release(): Promise<void> {
    return (this.released ??= this.use.leave());
  }

  /** Lets the program end although the lock is held. */
  unref(): this {
    this.grant.unref();
    return this;
  }

  ref(): this {
    this.grant.ref();
    return this;
  }

  /** @internal is another hold of the same use. */
  nest(): Hold {
    return this.use.hold(true);
  }

  /** @internal calls listener when the lock is lost before this hold was released. */
  onLost(listener: (error: LockLostError) => void): void {
    this.grant.whenLost((error) => {
      if (!this.done) listener(error);
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release();
  }
}
