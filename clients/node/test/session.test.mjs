import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { hostname } from 'node:os';
import test from 'node:test';
import { Worker } from 'node:worker_threads';
import * as dblock from 'dblock';
import { acquire, DatabaseLock, DblockNotFoundError, LockLostError, Session, withDatabaseLock } from 'dblock';
import { binary, lives, program, scratch, until, waits, within } from './helpers.mjs';

test('one co-process serves all, and only when it is needed', async () => {
  const dir = scratch();
  const session = new Session();
  assert.equal(session.pid, undefined);
  await Promise.all([session.ping(), session.ping()]);
  const { pid } = session;
  const holds = await Promise.all(['a', 'b', 'c'].map((name) => session.acquire(`${dir}/${name}.db`)));
  assert.deepEqual(holds.map((hold) => hold.info.pid), [pid, pid, pid]);
  for (const hold of holds) await hold.release();
  await session.close();
  assert.equal(session.pid, undefined);
  await until(() => !lives(pid), 'the co-process ends');
  await session.ping();
  assert.notEqual(session.pid, pid);
  await session.close();
});

test('require and import are one package', () => {
  const required = createRequire(import.meta.url)('dblock');
  assert.deepEqual(Object.keys(dblock).sort(), Object.keys(required).sort());
  for (const name of Object.keys(dblock)) assert.equal(dblock[name], required[name]);
});

test('where there is no dblock one error says what to install', async () => {
  const dir = scratch();
  const missing = await new Session({ binary: `${dir}/dblock` }).ping().catch((e) => e);
  assert.ok(missing instanceof DblockNotFoundError);
  assert.equal(missing.code, 'not-found');
  assert.match(missing.message, /there is no program at .*\/dblock \(from the option `binary`\)/);
  assert.match(missing.message, /install\.sh.*DBLOCK_BINARY/);

  // A copy of the package without a binary, on an empty PATH.
  const copy = `${dir}/node_modules/dblock`;
  mkdirSync(copy, { recursive: true });
  for (const part of ['dist', 'package.json']) {
    symlinkSync(new URL(`../${part}`, import.meta.url).pathname, `${copy}/${part}`);
  }
  const code = `require('dblock').acquire('app.db').catch((e) => console.log(e.name, e.message))`;
  const env = { PATH: dir };
  const out = execFileSync(process.execPath, ['--preserve-symlinks', '-e', code], { env, cwd: dir, encoding: 'utf8' });
  assert.match(out, /^DblockNotFoundError there is no dblock in the package for this system \(@dblock\/\w+-\w+\), nor on PATH; install dblock/);
  // The launcher of the package, which would find nothing either, is none.
  for (const place of [`${copy}/bin`, `${dir}/node_modules/.bin`]) mkdirSync(place, { recursive: true });
  writeFileSync(`${copy}/bin/dblock`, '#!/bin/sh\nexit 127\n', { mode: 0o755 });
  symlinkSync('../dblock/bin/dblock', `${dir}/node_modules/.bin/dblock`);
  env.PATH = `${dir}/node_modules/.bin:${dir}`;
  // The one on PATH, and before it that of the package for this system.
  for (const place of [dir, `${dir}/node_modules/@dblock/${process.platform}-${process.arch}/bin`]) {
    mkdirSync(place, { recursive: true });
    writeFileSync(`${dir}/dblock.tmp`, `#!/bin/sh\necho "$0" >> ${dir}/started\nexec ${binary()} "$@"\n`, { mode: 0o755 });
    renameSync(`${dir}/dblock.tmp`, `${place}/dblock`);
    const found = execFileSync(process.execPath, ['--preserve-symlinks', '-e', `require('dblock').acquire('app.db').then((h) => h.release()).then(() => console.log('had'))`], {
      env,
      cwd: dir,
      encoding: 'utf8',
    });
    assert.equal(found, 'had\n');
    assert.match(readFileSync(`${dir}/started`, 'utf8'), new RegExp(`${place}/dblock\n$`));
  }
});

test('a binary that has no session is as good as none', async () => {
  const dir = scratch();
  for (const [name, script, expected] of [
    ['old', 'echo "dblock: session: no such command" >&2; exit 64', /has no session \(too old\?\): it says "dblock: session: no such command"/],
    ['silent', 'exit 0', /has no session/],
    ['other', 'echo hello; exec sleep 100', /has no session.*it says "hello"/],
    ['future', `echo '{"event":"hello","protocol":9,"protocols":[9],"version":"v9"}'; exec cat`, /speaks another protocol.*v9/],
    ['bad', null, /could not be started/],
  ]) {
    const path = `${dir}/${name}`;
    writeFileSync(path, script === null ? '#!/no/such/interpreter\n' : `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
    const error = await within(acquire(`${dir}/app.db`, { binary: path }), name).catch((e) => e);
    assert.equal(error.name, 'DblockNotFoundError', `${name}: ${error.stack}`);
    assert.match(error.message, expected);
  }
});

test('when the co-process is killed, what it held is lost, and free', async () => {
  const db = `${scratch()}/app.db`;
  const session = new Session();
  const hold = await session.acquire(db);
  const events = [];
  hold.signal.addEventListener('abort', () => events.push('signal'));
  process.kill(session.pid, 'SIGKILL');
  const error = await within(hold.lost, 'the loss is told');
  assert.ok(error instanceof LockLostError);
  assert.equal(error.code, 'lost');
  assert.equal(hold.isLost, true);
  assert.deepEqual(events, ['signal']);
  assert.equal(hold.signal.reason, error);
  await assert.rejects(hold.check(), LockLostError);
  await assert.rejects(hold.release(), LockLostError);
  // The next one starts another, and need not wait.
  const next = await session.acquire(db, { wait: 0 });
  assert.ok(next.token > hold.token);
  await next.release();
  await session.close();
});

test('withDatabaseLock does not keep a loss to itself', async () => {
  const db = `${scratch()}/app.db`;
  const session = new Session();
  const run = session.run(db, {}, async (hold) => {
    process.kill(session.pid, 'SIGKILL');
    await hold.lost;
    return 'done';
  });
  await assert.rejects(within(run, 'the end'), LockLostError);
});

test('a lock that somebody takes away is lost', async () => {
  const dir = scratch();
  const hold = await acquire(`${dir}/app.db`);
  const other = { pid: 1, timestamp: Date.now(), host: hostname(), process: 'intruder' };
  writeFileSync(`${dir}/new`, JSON.stringify(other));
  execFileSync('mv', [`${dir}/new`, `${dir}/.app.lock`]);
  const error = await within(hold.lost, 'the loss is told');
  assert.match(error.message, /lost/);
  await assert.rejects(hold.release(), LockLostError);
  assert.equal(JSON.parse(readFileSync(`${dir}/.app.lock`, 'utf8')).process, 'intruder');
});

test('who waits while the co-process is killed goes on waiting with the next one', async () => {
  const db = `${scratch()}/app.db`;
  const held = await acquire(db);
  const session = new Session();
  const waiting = session.acquire(db, { wait: 'forever' });
  await waits(Session.shared(), db);
  const { pid } = session;
  process.kill(pid, 'SIGKILL');
  await until(() => session.pid !== undefined && session.pid !== pid, 'another one is started');
  await held.release();
  await (await within(waiting, 'the lock is had')).release();
  await session.close();
});

test('a program that holds nothing ends by itself', async () => {
  const dir = scratch();
  const p = program(
    `await withDatabaseLock(args[0], {}, () => {});
     await withDatabaseLock(args[0], { linger: 600000 }, () => {});
     say(Session.shared().pid);`,
    [`${dir}/app.db`],
  );
  const pid = await p.next();
  assert.equal(await p.ended(), 0);
  await until(() => !lives(pid), 'its co-process ends');
  assert.equal(existsSync(`${dir}/.app.lock`), false);
});

test('a program that holds a lock stays, unless it says otherwise', async () => {
  const dir = scratch();
  const stays = program(`const hold = await acquire(args[0]); say('had'); hold.signal.addEventListener('abort', () => say('lost'));`, [
    `${dir}/app.db`,
  ]);
  await stays.next();
  await assert.rejects(acquire(`${dir}/app.db`, { wait: 500 }), { code: 'held' });
  stays.child.kill('SIGKILL');
  await stays.ended();
  const goes = program(`(await acquire(args[0])).unref(); say('had');`, [`${dir}/app.db`]);
  await goes.next();
  assert.equal(await goes.ended(), 0);
  await (await acquire(`${dir}/app.db`)).release();
});

test('a program that waits stays', async () => {
  const dir = scratch();
  const hold = await acquire(`${dir}/app.db`);
  const p = program(`acquire(args[0], { wait: 'forever' }).then(async (hold) => { say('had'); await hold.release(); });`, [`${dir}/app.db`]);
  await waits(Session.shared(), `${dir}/app.db`);
  await hold.release();
  assert.equal(await p.next(), 'had');
  assert.equal(await p.ended(), 0);
});

test('the lock of a program that is killed is free at once', async () => {
  const dir = scratch();
  const db = `${dir}/app.db`;
  const p = program(`await acquire(args[0]); say('had');`, [db]);
  await p.next();
  const waiting = acquire(db, { wait: 'forever' });
  await waits(Session.shared(), db);
  const killed = performance.now();
  p.child.kill('SIGKILL');
  await (await within(waiting, 'the lock is had')).release();
  assert.ok(performance.now() - killed < 5000);
  assert.equal(await p.ended(), 'SIGKILL');
});

test('what the program has started does not keep the lock of a program that is killed', async () => {
  const dir = scratch();
  const db = `${dir}/app.db`;
  const p = program(
    `const { spawn } = await import('node:child_process');
     await acquire(args[0]);
     say(spawn('sleep', ['1000'], { stdio: 'ignore' }).pid);`,
    [db],
  );
  const left = await p.next();
  p.child.kill('SIGKILL');
  await (await acquire(db, { wait: 10_000 })).release();
  assert.ok(lives(left));
  process.kill(left, 'SIGKILL');
});

test('a blocked event loop does not cost the lock', async () => {
  const dir = scratch();
  const db = `${dir}/app.db`;
  const p = program(
    `const hold = await acquire(args[0], { staleTimeout: 1000 });
     say('had');
     const end = performance.now() + 3000;
     while (performance.now() < end);
     await hold.check();
     await hold.release();
     say('kept');`,
    [db],
  );
  await p.next();
  // By its own age, as peers and other machines see it.
  await assert.rejects(acquire(db, { staleTimeout: 1000, stale: 'age', wait: 2000 }), { code: 'held' });
  const notice = JSON.parse(readFileSync(`${dir}/.app.lock`, 'utf8'));
  assert.ok(Date.now() - notice.timestamp < 1000, `${Date.now() - notice.timestamp}`);
  assert.equal(await p.next(), 'kept');
  assert.equal(await p.ended(), 0);
});

test('Ctrl-C reaches the program and not its lock', async () => {
  const dir = scratch();
  const p = program(
    `const hold = await acquire(args[0]);
     process.on('SIGINT', async () => { await hold.check(); say('still mine'); await hold.release(); process.exit(0); });
     say('had');`,
    [`${dir}/app.db`],
    { detached: true },
  );
  await p.next();
  process.kill(-p.child.pid, 'SIGINT');
  assert.equal(await p.next(), 'still mine');
  assert.equal(await p.ended(), 0);
});

test('a worker has a session of its own, which ends with it', async () => {
  const dir = scratch();
  const db = `${dir}/app.db`;
  const hold = await acquire(db);
  const entry = new URL('../dist/index.js', import.meta.url).pathname;
  const worker = new Worker(
    `const { acquire, Session } = require(${JSON.stringify(entry)});
     const { parentPort } = require('node:worker_threads');
     acquire(${JSON.stringify(db)}, { wait: 'forever' }).then((hold) => parentPort.postMessage(Session.shared().pid));`,
    { eval: true },
  );
  const told = new Promise((resolve) => worker.once('message', resolve));
  await waits(Session.shared(), db);
  await hold.release();
  const pid = await within(told, 'the worker has the lock');
  assert.notEqual(pid, Session.shared().pid);
  await assert.rejects(acquire(db, { wait: 0 }), { code: 'held' });
  await worker.terminate();
  await (await acquire(db, { wait: 10_000 })).release();
});

test('a dblock that is started under a hold uses it', async (t) => {
  const db = `${scratch()}/app.db`;
  const code = await withDatabaseLock(db, {}, (hold) => {
    const child = spawn(binary(), ['-n', '-d', db, '--', 'true'], { env: { ...process.env, ...hold.env }, stdio: 'ignore' });
    return new Promise((resolve) => child.once('exit', resolve));
  });
  if (code === 75) return t.skip('this dblock does not lean on a session yet');
  assert.equal(code, 0);
});

test('force', async () => {
  const db = `${scratch()}/app.db`;
  const session = Session.shared();
  assert.deepEqual(await session.force(db), { removed: false, ended: [], running: 0 });
  const p = program(
    `const hold = await acquire(args[0], { process: 'stuck' }); say(Session.shared().pid); await hold.lost; say('lost');
     await hold.release().catch((e) => say(e.code));`,
    [db],
  );
  const pid = await p.next();
  await assert.rejects(session.force(db), { code: 'held' });
  await assert.rejects(session.force(db, { ifStale: true }), { code: 'held' });
  const forced = await session.force(db, { yes: true });
  assert.equal(forced.removed, true);
  assert.deepEqual(forced.ended, [pid]);
  assert.equal(await p.next(), 'lost');
  assert.equal(await p.next(), 'lost');
  assert.equal(await p.ended(), 0);
  // One's own: the session goes on.
  const hold = await acquire(db);
  const own = session.pid;
  await session.force(db, { yes: true });
  assert.equal(session.pid, own);
  await within(hold.lost, 'the loss is told');
  await assert.rejects(hold.release(), { code: 'lost' });
  assert.equal((await new DatabaseLock(db).isLocked()).locked, false);
});
