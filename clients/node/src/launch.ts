// For bin/dblock when Node runs it: Yarn does, and the shell when it has not found the program by itself.
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { basename } from 'node:path';
import { packaged } from './binary.js';

const relayed = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGTSTP', 'SIGCONT'] as const;
const typed: ReadonlySet<string> = new Set(['SIGINT', 'SIGQUIT', 'SIGTSTP']);

/** launch goes on as the program that is called as the file is, or, where Node cannot, stands in for it. */
export function launch(file: string): void {
  const name = basename(file);
  const program = packaged(name);
  if (!program) {
    process.stderr.write(
      `${name}: it was installed without its program for ${process.platform}-${process.arch}\n` +
        'hint: install dblock on the system that it is to run on, with its optional dependencies\n',
    );
    process.exitCode = 127;
    return;
  }
  const args = process.argv.slice(2);
  // Node ignores these, and so would the program, and all that it starts. What is caught is not handed on.
  for (const signal of ['SIGPIPE', 'SIGXFSZ'] as const) process.on(signal, () => {});
  const { execve } = process as { execve?: (file: string, args: string[], env: NodeJS.ProcessEnv) => never }; // 22.15
  if (execve) execve(program, [program, ...args], process.env);

  // Listened to before there is a child, which would be left alone by a signal in between.
  for (const signal of relayed) {
    process.on(signal, () => {
      // What is typed at the terminal it has got already: to many tools a second Ctrl-C means "at once".
      if (!typed.has(signal) || !foreground()) child.kill(signal);
      if (signal === 'SIGTSTP') process.kill(process.pid, 'SIGSTOP');
    });
  }
  const child = spawn(program, args, { stdio: 'inherit' });
  child.on('error', (error) => {
    process.stderr.write(`${name}: ${program} could not be started: ${error.message}\n`);
    process.exit(126);
  });
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code ?? 1);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal); // whoever waits for us looks at how the program ended
    process.exit(128 + constants.signals[signal]);
  });
}

/** foreground reports whether the terminal sends what is typed to all of our process group. */
function foreground(): boolean {
  try {
    let group, foreground;
    if (process.platform === 'linux') {
      const stat = readFileSync('/proc/self/stat', 'latin1');
      [, , group, , , foreground] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    } else {
      const ps = ['-o', 'pgid=', '-o', 'tpgid=', '-p', String(process.pid)];
      [group, foreground] = execFileSync('ps', ps, { encoding: 'utf8' }).trim().split(/\s+/);
    }
    return group === foreground;
  } catch {
    return false;
  }
}
