// The database is a file of JSON. It is made if it is not there.
import { existsSync, writeFileSync } from 'node:fs';

if (!existsSync('data/app.json')) writeFileSync('data/app.json', JSON.stringify({ version: 1, rows: [] }));
