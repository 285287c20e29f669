import { LockHeldError } from './errors.js';
import type { Holder } from './errors.js';
import type { Grant } from './grant.js';
import type { Hold } from './hold.js';
import { Use } from './hold.js';
import type { AcquireOptions, Request } from './options.js';
import { waitOf } from './options.js';
import type { Session } from './session.js';

/** Something that may only be open while the lock is held. */
export interface Resource {
  /** Is called when the lock was acquired, before anybody uses it. */
  open(): Promise<void>;
  /** Is called before the lock is released. */
  close(): Promise<void>;
  /** Is called when the lock was lost: to close would write to what may be somebody else's by now. */
  abandon(): void;
}

interface Waiter {
  resolve(hold: Hold): void;
  reject(error: unknown): void;
  options: AcquireOptions;
  since: number;
  deadline: number;
  timer?: NodeJS.Timeout;
  stop?: () => void;
}

// The longest time that a timer can be set to, ms.
const longest = 2 ** 31 - 1;

/**
 * Those in this program who want the same lock in the same way and let it linger. One of them asks the session; the
 * others use the lock after it, until `linger` has passed since it was acquired, or somebody elsewhere waits. Then it is
 * really released, and asked for again, behind all who wait elsewhere.
 */
export class Line {
  private state: 'idle' | 'asking' | 'opening' | 'held' | 'ending' = 'idle';
  private readonly queue: Waiter[] = [];
  private grant?: Grant;
  private users = 0;
  private until = 0;
  private timer?: NodeJS.Timeout;
  private asking?: AbortController;

  constructor(
    private readonly session: Session,
    private readonly request: Request,
    private readonly linger: number,
    private readonly resource: Resource | undefined,
    private readonly forget: () => void,
  ) {}

  /** enter waits for a turn. */
  enter(options: AcquireOptions): Promise<Hold> {
    if (this.state === 'held' && this.queue.length === 0 && this.vacant() && this.usable()) {
      return Promise.resolve(this.give());
    }
    return new Promise((resolve, reject) => {
      const since = performance.now();
      const waiter: Waiter = { resolve, reject, options, since, deadline: since + waitOf(options) };
      const { signal } = options;
      if (signal) {
        const abort = (): void => {
          this.drop(waiter);
          reject(signal.reason);
        };
        signal.addEventListener('abort', abort);
        waiter.stop = () => signal.removeEventListener('abort', abort);
      }
      this.queue.push(waiter);
      if (this.state === 'idle') return this.ask();
      if (this.state === 'held' && this.users === 0) return void this.end().catch(() => {}); // asks again
      if (waiter.deadline < since + longest) {
        waiter.timer = setTimeout(() => this.expire(waiter), waiter.deadline - since);
      }
    });
  }

  /** holds reports whether this is the grant that the line has at present. */
  holds(grant: Grant): boolean {
    return this.grant === grant;
  }

  /** surrender gives the lock to others as soon as nobody here is at work with it. */
  surrender(): void {
    if (!this.grant) return;
    this.grant.wanted = true;
    if (this.state === 'held' && this.users === 0) void this.end().catch(() => {});
  }

  /** retire ends what lingers; resolves when the lock is released. */
  async retire(): Promise<void> {
    if (this.grant) this.grant.wanted = true;
    if (this.state === 'held' && this.users === 0) await this.end();
    this.forget();
  }

  // usable: may one more use be made of the lock. This must count time by the clock: in a loop that never comes back
  // to the event loop, no timer and no event would end it.
  private usable(): boolean {
    const { grant } = this;
    return grant !== undefined && !grant.lost && !grant.wanted && performance.now() < this.until;
  }

  // What is open serves several at once, and keeps them apart itself.
  private vacant(): boolean {
    return this.users === 0 || this.request.mode === 'shared' || this.resource !== undefined;
  }

  private give(): Hold {
    const grant = this.grant!;
    this.users++;
    grant.ref();
    return new Use(grant, () => this.leave(grant)).hold();
  }

  private async leave(grant: Grant): Promise<void> {
    if (grant !== this.grant) throw grant.lost; // and nobody else could take its place
    this.users--;
    if (!this.usable()) {
      if (this.users === 0) await this.end();
      return;
    }
    this.serve();
    if (this.users === 0) grant.unref();
  }

  private serve(): void {
    while (this.queue.length > 0 && this.state === 'held' && this.vacant() && this.usable()) {
      const waiter = this.queue[0];
      this.remove(waiter);
      waiter.resolve(this.give());
    }
  }

  // end releases the lock, and asks for it again if somebody is left.
  private async end(): Promise<void> {
    const grant = this.grant!;
    clearTimeout(this.timer);
    let problem: { error: unknown } | undefined;
    if (this.resource && !grant.lost) {
      this.state = 'ending';
      grant.ref();
      try {
        await this.resource.close();
      } catch (error) {
        problem = { error };
      }
      if (this.grant !== grant) throw grant.lost; // while it was closed
    }
    this.grant = undefined;
    const released = grant.finish();
    this.again();
    await released;
    if (problem) throw problem.error;
  }

  private again(): void {
    this.state = 'idle';
    if (this.queue.length > 0) this.ask();
    else if (!this.resource) this.forget();
  }

  // lose forgets a lock that was lost. Those who are at work with it are told by their holds.
  private lose(grant: Grant): void {
    if (this.grant !== grant) return;
    clearTimeout(this.timer);
    this.grant = undefined;
    this.users = 0;
    this.resource?.abandon();
    grant.finish().catch(() => {});
    this.again();
  }

  private ask(): void {
    this.state = 'asking';
    const head = this.queue[0];
    clearTimeout(head.timer); // the session counts its time
    head.timer = undefined;
    this.asking = new AbortController();
    this.session.yield(this.request.db, this);
    this.session
      .take(this.request, head.deadline - performance.now(), this.asking.signal, head.options.onWaiting, {
        onWanted: () => this.wanted(),
        onOverdue: () => head.options.onOverdue?.(),
      })
      .then(
        (grant) => this.granted(grant),
        (error) => this.refused(head, error),
      );
  }

  private async granted(grant: Grant): Promise<void> {
    this.grant = grant;
    this.asking = undefined;
    if (this.resource) {
      this.state = 'opening';
      try {
        await this.resource.open();
      } catch (error) {
        this.grant = undefined;
        await grant.finish().catch(() => {});
        const head = this.queue[0];
        if (head) {
          this.remove(head);
          head.reject(grant.lost ?? error);
        }
        this.again();
        return;
      }
    }
    this.state = 'held';
    this.until = performance.now() + this.linger; // to open is work, which would be done in vain
    // Whoever has a database open closes it before the program ends.
    this.timer = setTimeout(
      () => {
        this.until = 0; // a timer can be a little ahead of the clock
        this.idle(grant);
      },
      Math.min(longest, this.linger),
    );
    if (!this.resource) this.timer.unref();
    grant.whenLost(() => this.lose(grant));
    if (this.grant !== grant) return;
    // The first one is served however soon somebody else has wanted the lock.
    if (this.queue.length > 0 && !this.usable()) {
      const waiter = this.queue[0];
      this.remove(waiter);
      waiter.resolve(this.give());
    } else {
      this.serve();
    }
    if (this.users > 0) return;
    grant.unref();
    this.idle(grant);
  }

  private refused(head: Waiter, error: unknown): void {
    this.asking = undefined;
    if (this.queue.includes(head)) {
      this.remove(head);
      head.reject(error);
    }
    this.again();
  }

  private wanted(): void {
    const { grant } = this;
    if (grant) this.idle(grant);
  }

  // idle releases the lock if nobody is at work with it and it is not to be kept.
  private idle(grant: Grant): void {
    if (this.grant === grant && this.state === 'held' && this.users === 0 && !this.usable()) void this.end().catch(() => {});
  }

  private drop(waiter: Waiter): void {
    this.remove(waiter);
    if (this.queue.length === 0) this.asking?.abort(new Error('nobody waits any more'));
  }

  private remove(waiter: Waiter): void {
    const at = this.queue.indexOf(waiter);
    if (at >= 0) this.queue.splice(at, 1);
    clearTimeout(waiter.timer);
    waiter.stop?.();
  }

  // expire gives up for one who has waited behind others of this program.
  private async expire(waiter: Waiter): Promise<void> {
    const holder = this.grant && { ...this.grant.info, heldMs: Date.now() - this.grant.answer.timestamp };
    this.drop(waiter);
    const waitedMs = performance.now() - waiter.since;
    waiter.reject(new LockHeldError({ holder: holder ?? (await this.holder()), waitedMs }));
  }

  private async holder(): Promise<Holder | undefined> {
    try {
      const { db, lock_file } = this.request;
      const { holder, age_ms } = await this.session.status(db, { lockFile: lock_file });
      return holder ? { pid: holder.pid, process: holder.process, host: holder.host, heldMs: age_ms } : undefined;
    } catch {
      return undefined;
    }
  }
}
