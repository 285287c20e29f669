import { AsyncLocalStorage } from 'node:async_hooks';
import { DatabaseLockError } from './errors.js';
import { Hold } from './hold.js';
import { lockPath } from './names.js';
import type { Request } from './options.js';

/** The hold in which something runs, and the ones around it. */
export interface Scope {
  hold: Hold;
  db: string;
  outer?: Scope;
}

const scopes = new AsyncLocalStorage<Scope>();

/** within runs fn in the scope of a hold: what asks for the same lock in there uses that one. */
export function within<T>(hold: Hold, db: string, fn: () => T): T {
  return scopes.run({ hold, db, outer: scopes.getStore() }, fn);
}

/** enclosing is the hold of this lock in whose scope we are, if it is still held. */
export function enclosing(request: Request): Hold | undefined {
  let scope = scopes.getStore();
  if (!scope) return undefined;
  let wanted: string | undefined;
  for (; scope; scope = scope.outer) {
    if (scope.hold.done) continue;
    if (scope.db === request.db && !request.lock_file) return scope.hold;
    if (scope.hold.lockFile === (wanted ??= lockPath(request.db, request.lock_file))) return scope.hold;
  }
  return undefined;
}

/** lean is a hold that uses the one around it. The lock stays until both are released. */
export function lean(outer: Hold, request: Request): Hold {
  if (outer.grant.lost) throw outer.grant.lost;
  if (request.mode === 'exclusive' && outer.mode === 'shared') {
    throw new DatabaseLockError(
      'upgrade',
      `${outer.lockFile} is held as shared around here, and would be waited for forever as exclusive`,
      'take the outer one as exclusive',
    );
  }
  return outer.nest();
}
