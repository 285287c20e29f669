import { accessSync, constants, realpathSync, statSync } from 'node:fs';
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

/** packaged gives the path of a program in the package for this system, if that was installed. */
export function packaged(name: string): string | undefined {
  try {
    const path = require.resolve(`@dblock/${process.platform}-${process.arch}/bin/${name}`);
    if (executable(path)) return path;
  } catch {
    // It is optional.
  }
  return undefined;
}

/**
 * findBinary looks for dblock: where the caller says, in DBLOCK_BINARY, in the package for this system, on PATH.
 * What was named by somebody must be there: nothing else is taken in its place.
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
  const own = packaged('dblock');
  if (own) return own;
  // Without its program this package still has a bin on the PATH of npm's scripts, which would find nothing either.
  const launcher = join(realpathSync(join(__dirname, '..')), 'bin', 'dblock');
  for (const dir of (process.env.PATH ?? '').split(delimiter)) {
    if (!isAbsolute(dir)) continue;
    const path = join(dir, 'dblock');
    if (executable(path) && realpathSync(path) !== launcher) return path;
  }
  throw new DblockNotFoundError(`there is no dblock in the package for this system (@dblock/${process.platform}-${process.arch}), nor on PATH`);
}
