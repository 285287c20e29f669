// Prints how many rows and batches there are. Readers may come together, if they all say that they only read.
import { DuckDBInstance } from '@duckdb/node-api';

const instance = await DuckDBInstance.create('dwh.duckdb', { access_mode: 'READ_ONLY' });
const connection = await instance.connect();
const reader = await connection.runAndReadAll('SELECT count(*)::INTEGER, count(DISTINCT batch)::INTEGER FROM facts');
console.log(reader.getRows()[0].join(' '));
