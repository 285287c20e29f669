// A writer that is to be ended in the middle of its work. It says of each row when it is
// there for good, and handles no signal.
//
// usage: node slow.mjs DIRECTORY WORKER ROWS

import { PGlite } from '../../peer/node_modules/@electric-sql/pglite/dist/index.js';

const [directory, worker, rows] = process.argv.slice(2);
const db = await PGlite.create(directory);
await db.exec('CREATE TABLE IF NOT EXISTS rows (worker int, n int)');
for (let n = 0; n < Number(rows); n++) {
  await db.query('INSERT INTO rows (worker, n) VALUES ($1, $2)', [Number(worker), n]);
  process.stdout.write(`row ${worker} ${n}\n`);
  await new Promise((done) => setTimeout(done, 20));
}
await db.close();
