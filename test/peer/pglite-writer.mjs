// A real embedded database that two processes must not open at once, for tests.
//
// usage: node pglite-writer.mjs DIRECTORY WORKER [ROWS]   insert ROWS rows (default 20)
//        node pglite-writer.mjs DIRECTORY --count         print how many rows there are
//
// The first form opens the PGlite data directory, makes the table "rows" if it is
// not there, inserts (WORKER, 0), (WORKER, 1)... one statement each, and closes.

import { PGlite } from '@electric-sql/pglite';

function usage() {
  process.stderr.write('usage: node pglite-writer.mjs DIRECTORY (WORKER [ROWS] | --count)\n');
  process.exit(64);
}

const [directory, worker, rows = '20'] = process.argv.slice(2);
const counting = worker === '--count';
if (!directory || !worker || !(counting || (/^\d+$/.test(worker) && /^\d+$/.test(rows)))) usage();

const db = await PGlite.create(directory);
try {
  if (counting) {
    const { rows: found } = await db.query('SELECT count(*)::int AS n FROM rows');
    process.stdout.write(`${found[0].n}\n`);
  } else {
    await db.exec('CREATE TABLE IF NOT EXISTS rows (worker int, n int)');
    for (let n = 0; n < Number(rows); n++) {
      await db.query('INSERT INTO rows (worker, n) VALUES ($1, $2)', [Number(worker), n]);
    }
  }
} finally {
  await db.close();
}
