// Adds 1000 rows. DuckDB lets one process write, and nobody else in.
import { DuckDBInstance } from '@duckdb/node-api';

const instance = await DuckDBInstance.create('dwh.duckdb');
const connection = await instance.connect();
await connection.run('CREATE TABLE IF NOT EXISTS facts (batch VARCHAR, n INTEGER)');
await connection.run('INSERT INTO facts SELECT $1, range FROM range(1000)', [process.argv[2]]);
connection.closeSync();
instance.closeSync();
