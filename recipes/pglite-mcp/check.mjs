// An MCP client, as an editor is one: it starts the servers of mcp.json and calls their tools.
import { strictEqual, match, rejects } from 'node:assert';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';

const { mcpServers } = JSON.parse(readFileSync('mcp.json', 'utf8'));

async function start(name, change = {}) {
  const { env, ...server } = mcpServers[name];
  const transport = new StdioClientTransport({ ...server, stderr: 'pipe', env: { ...process.env, ...env }, ...change });
  let stderr = '';
  transport.stderr.on('data', (data) => (stderr += data));
  const client = new Client({ name: 'check', version: '1.0.0' });
  try {
    await client.connect(transport); // initialize
  } catch (error) {
    throw new Error(`${error.message}: ${stderr}`);
  }
  const call = async (tool, args = {}) => {
    const result = await client.callTool({ name: tool, arguments: args });
    if (result.isError) throw new Error(result.content[0].text);
    return result.content[0].text;
  };
  return { client, call };
}

// Two editors with a server each, and a shell, all at the same directory.
const editors = [await start('tasks'), await start('tasks')];
const { tools } = await editors[0].client.listTools();
strictEqual(tools.map((tool) => tool.name).join(), 'add_task,count_tasks');
const script = `import { PGlite } from '@electric-sql/pglite';
  const db = await PGlite.create('data/pg');
  await db.exec("CREATE TABLE IF NOT EXISTS tasks (title text); INSERT INTO tasks VALUES ('shell')");
  await db.close();`;
const calls = [];
for (let n = 0; n < 4; n++) for (const editor of editors) calls.push(editor.call('add_task', { title: `task ${n}` }));
execFileSync('dblock', ['-d', 'data/pg', '-w', '60', '--', 'node', '--input-type=module', '-e', script]);
for (const answer of await Promise.all(calls)) strictEqual(answer, 'added');
for (const editor of editors) strictEqual(await editor.call('count_tasks'), '9');
for (const editor of editors) await editor.client.close();

// The server that is wrapped: one at a time, and the second one is told whom it would have to wait for.
const notes = await start('notes');
strictEqual(await notes.call('add_note'), '1');
match(execFileSync('dblock', ['status', '-d', 'data/notes'], { encoding: 'utf8' }), /mcp-notes/);
const impatient = mcpServers.notes.args.map((arg) => (arg === '30' ? '0' : arg));
await rejects(start('notes', { args: impatient }), /held by mcp-notes/);
await notes.client.close();
const again = await start('notes');
strictEqual(await again.call('add_note'), '2');
await again.client.close();
