// One of the programs of the mixed storm: counts under the lock until its input ends.
import { fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
const { withDatabaseLock } = await import(process.env.MIXED_CLIENT);

const { MIXED_DB: db, MIXED_LOG: path, MIXED_WHO: who } = process.env;
const options = { wait: 60_000, linger: Number(process.env.MIXED_LINGER) };
const log = openSync(path, 'a+');
const tail = Buffer.alloc(4096);
let over = false;
process.stdin.on('end', () => (over = true)).resume();

function last() {
  const size = fstatSync(log).size;
  const text = tail.toString('latin1', 0, readSync(log, tail, 0, 4096, Math.max(0, size - 4096)));
  const line = text.split('\n').findLast((line) => line.startsWith('E '));
  return line ? Number(line.split(' ')[4]) : 0;
}

let told = 0;
for (let n = 1; !over; n++) {
  try {
    await withDatabaseLock(db, options, (hold) => {
      const { pid } = hold.info;
      if (pid !== told) writeSync(1, `H ${(told = pid)}\n`);
      const what = `${who}.${n} ${hold.token} ${pid}`;
      writeSync(log, `B ${what}\n`);
      writeSync(log, `E ${what} ${last() + 1}\n`);
    });
  } catch (error) {
    if (error.code !== 'lost' && error.code !== 'session') throw error;
    continue;
  }
  writeSync(1, `A ${who}.${n}\n`);
  await turn(); // a lock that lingers comes without one, and the end of the input would not be heard
}
process.exit();
