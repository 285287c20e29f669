// Has the lock a few times, with a session that is killed meanwhile, and says what it was told.
const { Session, withDatabaseLock } = await import(process.env.KILLED_CLIENT);

const use = (linger) =>
  withDatabaseLock(process.env.KILLED_DB, { wait: 20_000, linger }, (hold) =>
    hold.check().catch((error) => console.log(`check: ${error.code}\t${error.message}`)),
  );
for (const linger of [0, 5, 5, 0, 5]) {
  await use(linger).catch((error) => console.log(`${error.code}\t${error.message}`));
}
await Session.shared().close().catch((error) => console.log(`${error.code}\t${error.message}`));
await use(0);
console.log('done');
