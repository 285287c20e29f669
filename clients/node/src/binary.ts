import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, isAbsolute, join, resolve } from 'node:path';
import { DblockNotFoundError } from './errors.js';

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/**
 * findBinary looks for dblock: where the caller says, in DBLOCK_BINARY, in this package, in the package for this platform,
 * on PATH. What was named by somebody must be there: nothing else is taken in its place.
 */
export function findBinary(given?: string): string {
  for (const [path, source] of [
    [given, 'the option `binary`'],
    [process.env.DBLOCK_BINARY, 'DBLOCK_BINARY'],
  ]) {
    if (!path) continue;
    const full = resolve(path);
    if (!executable(full)) throw new DblockNotFoundError(`there is no program at ${full} (from ${source})`);
    return full;
  }
  const beside = join(__dirname, '..', 'bin', 'dblock');
  if (executable(beside)) return beside;
  try {
    const packaged = require.resolve(`@dblock/${process.platform}-${process.arch}/bin/dblock`);
    if (executable(packaged)) return packaged;
  } catch {
    // It is optional.
  }
  for (const dir of (process.env.PATH ?? '').split(delimiter)) {
    if (!isAbsolute(dir)) continue;
    const path = join(dir, 'dblock');
    if (executable(path)) return path;
  }
  throw new DblockNotFoundError('no dblock was found in this package or on PATH');
}
