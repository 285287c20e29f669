// Adds a row: reads all, and writes all back.
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';

const db = JSON.parse(readFileSync('data/app.json', 'utf8'));
db.rows.push(`row ${db.rows.length + 1}`);
await setTimeout(20); // what a real one computes
writeFileSync('data/app.json', JSON.stringify(db));
