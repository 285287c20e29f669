import { drizzle } from 'drizzle-orm/libsql';
import { migrate } from 'drizzle-orm/libsql/migrator';

const db = drizzle('file:app.db');
await migrate(db, { migrationsFolder: 'migrations' });
