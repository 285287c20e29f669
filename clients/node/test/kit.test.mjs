// The conformance kit of clients/kit: what a session must answer, and how lock files must be judged. Its README says what the
// steps and matchers mean.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, readlinkSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { createInterface } from 'node:readline';
import test from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { binary, scratch, within } from './helpers.mjs';

const kit = new URL('../../kit/', import.meta.url);
const skip = existsSync(kit) ? false : 'the kit is not here';
const patience = 10_000; // ms, as the kit has it

const load = (name) => (skip ? {} : JSON.parse(readFileSync(new URL(name, kit), 'utf8')));
const missing = Symbol('missing');

class Client {
  #lines = [];
  #more = () => {};

  constructor(flags, cwd) {
    this.child = spawn(binary(), ['session', ...flags], { cwd, stdio: ['pipe', 'pipe', 'inherit'] });
    this.exit = once(this.child, 'exit');
    this.child.stdin.on('error', () => {});
    createInterface({ input: this.child.stdout }).on('line', (line) => {
      this.#lines.push(JSON.parse(line));
      this.#more();
    });
  }

  write(text) {
    this.child.stdin.write(`${text}\n`);
  }

  find(asked) {
    const byID = asked.id === null || ['string', 'number'].includes(typeof asked.id);
    return this.#lines.findIndex((line) => (byID ? line.id === asked.id : line.event === asked.event));
  }

  async take(asked) {
    const found = async () => {
      for (let at; ; ) {
        if ((at = this.find(asked)) >= 0) return this.#lines.splice(at, 1)[0];
        await new Promise((resolve) => (this.#more = resolve));
      }
    };
    return within(found(), `a line like ${JSON.stringify(asked)}`, patience);
  }

  any(fits) {
    return this.#lines.some(fits);
  }
}

/** One directory, what was saved in it, and what stands for what. */
class World {
  saved = new Map();
  clients = new Map();
  dir = scratch();

  constructor(dead) {
    this.dead = dead;
  }

  name(key) {
    if (key === 'dir') return this.dir;
    if (key === 'host') return hostname();
    if (key === 'pid') return process.pid;
    if (key === 'dead') return this.dead;
    if (key === 'boot') return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    if (key === 'pidns') return readlinkSync('/proc/self/ns/pid').replace(/\D/g, '');
    if (key.startsWith('pid:')) return this.clients.get(key.slice(4)).child.pid;
    if (key.startsWith('now')) return Date.now() + Number(key.slice(3) || 0);
    return undefined;
  }

  text(text) {
    return text.replace(/\{([a-z]+(?::\w+|[-+]\d+)?)\}/g, (whole, key) => this.name(key) ?? whole);
  }

  /** A value with all that stands for something replaced. */
  value(value) {
    if (typeof value === 'string') {
      const alone = /^\{(pid|dead|pid:\w+)\}$/.exec(value);
      return alone ? this.name(alone[1]) : this.text(value);
    }
    if (Array.isArray(value)) return value.map((v) => this.value(v));
    if (value === null || typeof value !== 'object') return value;
    if ('$ref' in value && !('$not' in value)) return this.saved.get(value.$ref);
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, this.value(v)]));
  }

  fits(asked, got) {
    if (Array.isArray(asked)) {
      return Array.isArray(got) && got.length === asked.length && asked.every((a, i) => this.fits(a, got[i]));
    }
    if (asked === null || typeof asked !== 'object') return isDeepStrictEqual(asked, got);
    if ('$absent' in asked) return got === missing;
    if (got === missing) return false;
    if ('$is' in asked) return (got === null ? 'null' : Array.isArray(got) ? 'array' : typeof got) === asked.$is;
    if ('$save' in asked) return this.saved.set(asked.$save, got) && true;
    if ('$ref' in asked) return isDeepStrictEqual(this.saved.get(asked.$ref), got) !== Boolean(asked.$not);
    if ('$has' in asked) return typeof got === 'string' && got.includes(asked.$has);
    if ('$above' in asked) return got > this.saved.get(asked.$above);
    if ('$min' in asked || '$max' in asked) {
      return typeof got === 'number' && got >= (asked.$min ?? -Infinity) && got <= (asked.$max ?? Infinity);
    }
    if ('$contains' in asked) return Array.isArray(got) && got.some((g) => this.fits(asked.$contains, g));
    if (typeof got !== 'object' || got === null) return false;
    return Object.entries(asked).every(([k, a]) => this.fits(a, Object.hasOwn(got, k) ? got[k] : missing));
  }

  client(name, flags = []) {
    let client = this.clients.get(name);
    if (!client) this.clients.set(name, (client = new Client(flags.map((f) => this.text(f)), this.dir)));
    return client;
  }

  async expect(client, expected) {
    const asked = this.value(expected);
    const got = await client.take(asked);
    assert.ok(this.fits(asked, got), `${JSON.stringify(got)} does not fit ${JSON.stringify(asked)}`);
    return got;
  }

  async step(step, flags) {
    if ('write' in step) return writeFileSync(this.text(step.write), this.text(step.text));
    if ('remove' in step) return rmSync(this.text(step.remove), { recursive: true, force: true });
    if ('rename' in step) return renameSync(this.text(step.rename), this.text(step.to));
    if ('exists' in step) return assert.equal(existsSync(this.text(step.exists)), step.is, step.exists);
    const client = this.client(step.client, flags?.[step.client]);
    if ('send' in step) return client.write(JSON.stringify(this.value(step.send)));
    if ('line' in step) return client.write(this.text(step.line).repeat(step.times ?? 1));
    if ('expect' in step) return this.expect(client, step.expect);
    if ('none' in step) {
      const asked = this.value(step.none);
      return assert.ok(!client.any((line) => this.fits(asked, line)), `there is ${JSON.stringify(asked)}`);
    }
    if ('end' in step) {
      client.ended = true;
      return step.end === 'input' ? client.child.stdin.end() : client.child.kill('SIGKILL');
    }
    assert.ok('exit' in step, `an unknown step: ${JSON.stringify(step)}`);
    const [code] = await within(client.exit, 'its end', patience);
    client.ended = true;
    if (step.exit !== 'any') assert.equal(code, step.exit);
  }

  async end() {
    for (const client of this.clients.values()) {
      if (client.ended) continue;
      client.child.stdin.end();
      assert.equal((await within(client.exit, 'its end', patience))[0], 0);
    }
  }

  kill() {
    for (const { child } of this.clients.values()) child.kill('SIGKILL');
  }
}

const dead = spawnSync('true').pid;

test('what a session must answer', { skip }, async (t) => {
  const { scenarios = [] } = load('session.json');
  const probe = new World(dead);
  const { capabilities } = skip ? {} : await probe.client('a').take({ event: 'hello' });
  await probe.end();
  for (const { name, needs = [], flags, steps } of scenarios) {
    const lacks = needs.find((need) => !capabilities.includes(need));
    await t.test(name, { skip: lacks && `needs ${lacks}` }, async () => {
      const world = new World(dead);
      try {
        for (const step of steps) await world.step(step, flags);
        await world.end();
      } finally {
        world.kill();
      }
    });
  }
});

test('how lock files must be judged', { skip }, async (t) => {
  // Whoever was started after a lock file's timestamp cannot have written it.
  await within(new Promise((resolve) => setTimeout(resolve, Math.max(0, 1100 - performance.now()))), 'a second');
  const { notices = [] } = load('notices.json');
  const linux = existsSync('/proc/sys/kernel/random/boot_id');
  for (const notice of notices) {
    const foreign = !linux && /\{(boot|pidns)\}/.test(notice.text ?? '') && 'there is no boot id';
    await t.test(notice.name, { skip: foreign }, async () => {
      const world = new World(dead);
      const db = `${world.dir}/app.db`;
      const file = `${world.dir}/.app.lock`;
      const client = world.client('a', notice.flags);
      let id = 0;
      const ask = async (request) => {
        client.write(JSON.stringify({ id: ++id, db, ...request }));
        return client.take({ id });
      };
      try {
        if (notice.used) {
          const { hold } = await ask({ op: 'acquire' });
          await ask({ op: 'release', hold });
        }
        if (notice.bytes !== undefined) writeFileSync(file, Buffer.from(notice.bytes, 'base64'));
        else if (notice.text !== undefined) writeFileSync(file, world.text(notice.text));
        if (notice.file_age_ms) {
          const then = new Date(Date.now() - notice.file_age_ms);
          utimesSync(file, then, then);
        }
        const { status } = await ask({ op: 'status' });
        const asked = world.value(notice.status);
        assert.ok(world.fits(asked, status), `${JSON.stringify(status)} does not fit ${JSON.stringify(asked)}`);
        const acquired = await ask({ op: 'acquire', wait: 0 });
        assert.equal(acquired.ok ? 'ok' : acquired.error.code, notice.acquire);
        if (acquired.ok) await ask({ op: 'release', hold: acquired.hold });
        await world.end();
      } finally {
        world.kill();
      }
    });
  }
});
