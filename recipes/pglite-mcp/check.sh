#!/bin/sh
. "$RECIPES/lib.sh"
need node nodejs
need npm npm

# The client for Node comes from this repository.
client=$RECIPES/../clients/node
if [ ! -d "$client/dist" ]; then
	mkdir "$scratch/client"
	(cd "$client" && tar -cf - --exclude=node_modules .) | tar -xf - -C "$scratch/client"
	client=$scratch/client
	(cd "$client" && npm ci --prefer-offline --no-audit --no-fund --loglevel=error && npm run --silent build) >"$scratch/build" 2>&1 ||
		fail "building the client for Node: $(tail -n 5 "$scratch/build")"
fi
npm pkg delete dependencies.dblock
npm_install
mkdir -p node_modules/dblock data
cp -R "$client/package.json" "$client/dist" node_modules/dblock/

timeout 120 node check.mjs
dblock status -q --exit-code -d data/pg || fail "the lock of data/pg is still held"
dblock status -q --exit-code -d data/notes || fail "the lock of data/notes is still held"

# Without a lock two servers that keep the directory open lose notes.
cat >two.mjs <<'END'
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';

const servers = [0, 1].map(() => new StdioClientTransport({ command: 'node', args: ['plain.mjs'], stderr: 'ignore' }));
const clients = servers.map(() => new Client({ name: 'check', version: '1.0.0' }));
await Promise.all(clients.map((client, n) => client.connect(servers[n])));
const answers = await Promise.all(clients.map((client) => client.callTool({ name: 'add_note', arguments: {} })));
const numbers = answers.map((answer) => answer.content[0].text);
await Promise.all(clients.map((client) => client.close()));
if (numbers[0] === numbers[1]) {
  console.log(`both servers made note ${numbers[0]}`);
  process.exit(1);
}
END
breaks 3 timeout 60 node two.mjs
say "2 MCP servers and a shell: 9 of 9 tasks; the wrapped server has its database for itself"
