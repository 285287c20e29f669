import { readlinkSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DatabaseLockError } from './errors.js';

/** url says whether a database is a lock on a server, and no path. */
export const url = (database: string): boolean => /^(postgres|postgresql|etcd|etcds):\/\//.test(database);

/**
 * absolute makes a path absolute and leaves the rest of it alone: a `..` behind a symbolic link
 * is the kernel's to resolve.
 */
export function absolute(path: string | URL): string {
  if (url(String(path))) return String(path);
  if (typeof path !== 'string') return fileURLToPath(path);
  if (path.startsWith('file://')) return fileURLToPath(path);
  if (path === '') throw new DatabaseLockError('usage', 'no database was named');
  return path.startsWith('/') ? path : `${process.cwd()}/${path}`;
}

// locate is the real path of the directory, and the last name as it was given.
function locate(path: string): string {
  const trimmed = path.replace(/\/+$/, '');
  const name = basename(trimmed);
  const whole = name === '' || name === '.' || name === '..';
  try {
    return whole ? realpathSync.native(path) : join(realpathSync.native(trimmed.slice(0, -name.length)), name);
  } catch {
    return resolve(path); // there is no such directory yet
  }
}

/**
 * lockPath is where the lock file of a database is: `DIR/.STEM.lock`, in the real directory of
 * what the path names, or of what it points to. A lock on a server is where its URL says.
 */
export function lockPath(database: string, lockFile?: string): string {
  if (lockFile) return locate(lockFile);
  if (url(database)) return database;
  let path = locate(database);
  for (let links = 0; links < 40; links++) {
    let target: string;
    try {
      target = readlinkSync(path);
    } catch {
      break;
    }
    path = locate(target.startsWith('/') ? target : `${dirname(path)}/${target}`);
  }
  const name = basename(path).replace(/^\.+/, '');
  const dot = name.lastIndexOf('.');
  return join(dirname(path), `.${dot > 0 ? name.slice(0, dot) : name}.lock`);
}
