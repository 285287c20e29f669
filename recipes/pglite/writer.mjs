// writer.mjs WORKER: adds ten rows. writer.mjs: prints how many there are.
import { PGlite } from '@electric-sql/pglite';

const db = await PGlite.create('data/pg');
try {
  await db.exec('CREATE TABLE IF NOT EXISTS rows (worker int, n int)');
  const worker = Number(process.argv[2]);
  for (let n = 0; worker && n < 10; n++) await db.query('INSERT INTO rows VALUES ($1, $2)', [worker, n]);
  if (!worker) console.log((await db.query('SELECT count(*)::int AS n FROM rows')).rows[0].n);
} finally {
  await db.close();
}
