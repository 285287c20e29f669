// An MCP server that knows nothing of locks, and keeps its PGlite open.
import { PGlite } from '@electric-sql/pglite';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';

const db = await PGlite.create('data/notes');
await db.exec('CREATE TABLE IF NOT EXISTS notes (n serial)');
const server = new McpServer({ name: 'notes', version: '1.0.0' });

server.registerTool('add_note', { description: 'Adds a note' }, async () => {
  const { rows } = await db.query('INSERT INTO notes DEFAULT VALUES RETURNING n');
  return { content: [{ type: 'text', text: String(rows[0].n) }] };
});

const transport = new StdioServerTransport();
await server.connect(transport);
process.stdin.on('end', async () => {
  await db.close();
  process.exit();
});
