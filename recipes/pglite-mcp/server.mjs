// An MCP server on a PGlite directory that others use, too: it is opened and locked for each call.
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { createLockedDatabase } from 'dblock';
import { z } from 'zod';

const db = await createLockedDatabase(process.env.TASKS_DB, { processType: 'mcp-server', wait: '1m' });
const text = (value) => ({ content: [{ type: 'text', text: String(value) }] });
const server = new McpServer({ name: 'tasks', version: '1.0.0' });

server.registerTool('add_task', { description: 'Adds a task', inputSchema: { title: z.string() } }, ({ title }) =>
  db.transaction(async (tx) => {
    await tx.query('CREATE TABLE IF NOT EXISTS tasks (title text)');
    await tx.query('INSERT INTO tasks VALUES ($1)', [title]);
    return text('added');
  }),
);
server.registerTool('count_tasks', { description: 'How many tasks there are' }, async () => {
  const { rows } = await db.query('SELECT count(*)::int AS n FROM tasks');
  return text(rows[0].n);
});

await server.connect(new StdioServerTransport());
