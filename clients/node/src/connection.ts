import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { DblockError, DblockNotFoundError, LockLostError } from './errors.js';
import type { Problem } from './errors.js';
import type { Grant } from './grant.js';
import type { Waiting } from './options.js';
import { holderOf } from './errors.js';

export type Answer =
  | ({ ok: true } & Record<string, any>)
  | { ok: false; error: Problem };

interface Pending {
  resolve(answer: Answer): void;
  reject(error: Error): void;
  onWaiting?: (waiting: Waiting) => void;
}

// How long a new session may take to say hello, ms. A binary without a session may do anything.
const patience = 10_000;

/** One co-process, from its start to its end. */
export class Connection {
  /** Why it is not there any more. */
  dead?: DblockError;
  /** Whether it was asked to end. */
  closing = false;
  private readonly ended: Promise<void>;
  private readonly child: ChildProcess;
  private readonly stdin!: Socket;
  private readonly stdout!: Socket;
  private readonly pending = new Map<number, Pending>();
  private readonly grants = new Map<number, Grant>();
  private greeted = false;
  private rest = '';
  private complaint = '';
  private lastID = 0;
  private refs = 0;
  private end!: () => void;
  private greeting?: NodeJS.Timeout;

  constructor(
    private readonly binary: string,
    args: readonly string[],
  ) {
    this.ended = new Promise((resolve) => (this.end = resolve));
    this.child = spawn(binary, ['session', ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    const { child } = this;
    child.on('error', (error) => this.die(new DblockNotFoundError(`${binary} could not be started: ${error.message}`, error)));
    if (!child.stdout) return; // no descriptors left: the error comes
    this.stdin = child.stdin as Socket;
    this.stdout = child.stdout as Socket;
    const stderr = child.stderr as Socket;
    this.stdin.on('error', () => {}); // the end of stdout tells
    this.stdout.setEncoding('utf8');
    this.stdout.on('data', (text: string) => this.read(text));
    this.stdout.on('error', () => {});
    this.stdout.on('close', () => this.closed());
    stderr.setEncoding('utf8');
    stderr.on('data', (text: string) => {
      // Before its first line it is told in the error that this binary has no session.
      if (this.greeted) process.stderr.write(text);
      else this.complaint = (this.complaint + text).slice(0, 500);
    });
    stderr.on('error', () => {});
    child.unref();
    this.stdin.unref();
    this.stdout.unref();
    stderr.unref();
    this.greeting = setTimeout(() => child.kill('SIGKILL'), patience).unref();
  }

  get pid(): number | undefined {
    return this.child.pid;
  }

  /** While somebody waits for an answer, or holds a lock, the program stays alive. */
  ref(): void {
    if (this.refs++ === 0 && this.stdout) this.stdout.ref();
  }

  unref(): void {
    if (--this.refs === 0 && this.stdout) this.stdout.unref();
  }

  granted(grant: Grant): void {
    this.grants.set(grant.answer.hold, grant);
    this.ref();
  }

  finished(grant: Grant): void {
    this.grants.delete(grant.answer.hold);
  }

  /** The grants of this session that are in force. */
  get held(): Iterable<Grant> {
    return this.grants.values();
  }

  /** request sends one request. An answer that says no is not an error here. */
  request(op: string, body: object, onID?: (id: number) => void, onWaiting?: Pending['onWaiting']): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (this.dead) {
        reject(this.dead);
        return;
      }
      const id = ++this.lastID;
      this.pending.set(id, { resolve, reject, onWaiting });
      this.ref();
      onID?.(id);
      this.send({ id, op, ...body });
    });
  }

  /** cancel ends an acquire that waits; that one is answered. */
  cancel(target: number): void {
    if (this.pending.has(target)) this.request('cancel', { target }).catch(() => {});
  }

  /** close ends the session, and with it all that it holds. */
  close(): Promise<void> {
    if (!this.dead && !this.closing && this.stdin) {
      this.closing = true;
      this.stdin.end();
      this.stdout.ref();
    }
    return this.ended;
  }

  private send(line: object): void {
    if (this.stdin) this.stdin.write(JSON.stringify(line) + '\n');
  }

  private read(text: string): void {
    let from = 0;
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', from)) {
      const line = this.rest + text.slice(from, at);
      this.rest = '';
      from = at + 1;
      let message;
      try {
        message = JSON.parse(line);
      } catch {
        this.complaint = line.slice(0, 200);
        this.child.kill('SIGKILL'); // whoever says this is no session
        return;
      }
      this.receive(message);
    }
    this.rest += text.slice(from);
  }

  private receive(message: any): void {
    if (message.event === undefined) {
      const pending = this.pending.get(message.id);
      if (!pending) return;
      this.pending.delete(message.id);
      pending.resolve(message);
      this.unref();
      return;
    }
    switch (message.event) {
      case 'hello':
        this.greeted = true;
        clearTimeout(this.greeting);
        if (!message.protocols?.includes(1)) {
          this.die(new DblockNotFoundError(`${this.binary} speaks another protocol than this package (${message.version})`));
          this.stdin.end();
        }
        break;
      case 'waiting':
        this.pending.get(message.id)?.onWaiting?.({
          db: message.db,
          lockFile: message.lock_file,
          holder: holderOf(message.holder),
          ahead: message.ahead,
          waitedMs: message.waited_ms,
        });
        break;
      case 'wanted':
        this.grants.get(message.hold)?.want();
        break;
      case 'overdue':
        this.grants.get(message.hold)?.onOverdue?.();
        break;
      case 'lost':
        this.grants.get(message.hold)?.lose(new LockLostError(message.error.message, message.error.hint));
        break;
    }
  }

  private closed(): void {
    if (this.greeted) {
      this.die(new DblockError('session', "dblock's co-process has ended"));
    } else {
      const said = this.complaint.trim().split('\n')[0];
      this.die(new DblockNotFoundError(`${this.binary} has no session (too old?)${said && `: it says "${said}"`}`));
    }
  }

  private die(error: DblockError): void {
    this.end();
    if (this.dead) return;
    this.dead = error;
    clearTimeout(this.greeting);
    const lost = new LockLostError(`The lock was lost: ${error.message}`);
    for (const grant of this.grants.values()) grant.lose(lost);
    for (const pending of this.pending.values()) {
      pending.reject(error);
      this.unref();
    }
    this.pending.clear();
  }
}
