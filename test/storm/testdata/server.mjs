// A server that shares a PGlite directory with others by the lock file alone, as
// an MCP server does: it takes the lock for each turn, opens the database,
// writes, closes it, and lets go. The locking is peer.mjs's, by a child process
// that holds the lock until its stdin is closed.
//
// usage: node server.mjs DIRECTORY LOCKFILE TURNS ROWS

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const peer = fileURLToPath(new URL('../../peer/peer.mjs', import.meta.url));
const writer = fileURLToPath(new URL('../../peer/pglite-writer.mjs', import.meta.url));
const [directory, lockFile, turns, rows] = process.argv.slice(2);

// held starts a peer and returns it when it has the lock.
async function held() {
  const child = spawn(process.execPath, [peer, lockFile, '--wait-stdin', '--retries', '600', '--process', 'mcp-server'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.setEncoding('utf-8');
  for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
    text += chunk;
    if (text.includes('held')) return child;
  }
  throw new Error(`the lock was not had: ${text}`);
}

for (let turn = 0; turn < Number(turns); turn++) {
  const lock = await held();
  const work = spawn(process.execPath, [writer, directory, String(1000 + turn), rows], { stdio: 'inherit' });
  const [code] = await once(work, 'exit');
  if (code !== 0) throw new Error(`the writer has failed: ${code}`);
  lock.stdin.end();
  lock.stdout.resume();
  await once(lock, 'exit');
}
