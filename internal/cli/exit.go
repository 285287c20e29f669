package cli

// The exit codes of dblock's own, those of sysexits(3) and of shells. All others are the
// command's. A script can rely on them.
const (
	ExitUsage         = 64  // wrong usage
	ExitLost          = 69  // the lock was lost while the command ran, or its server cannot be reached
	ExitFault         = 70  // a fault in dblock
	ExitCannotCreate  = 73  // the lock cannot be created
	ExitConflict      = 75  // the lock was not acquired in time
	ExitDenied        = 77  // the lock, or its directory, belongs to somebody else
	ExitTimeLimit     = 124 // the command took longer than it may, as timeout(1) has it
	ExitNotExecutable = 126 // the command cannot be executed
	ExitNotFound      = 127 // there is no such command
)
