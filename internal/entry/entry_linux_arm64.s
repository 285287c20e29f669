//go:build linux && !portable

#include "textflag.h"

#define SYS_rt_sigaction 134
#define SYS_rt_sigprocmask 135
#define SIG_BLOCK 0
#define SYS_fcntl 25
#define SYS_prctl 167
#define SYS_prlimit64 261
#define F_GETFD 1
#define PR_SET_TIMERSLACK 29
#define PR_GET_TIMERSLACK 30
#define SLACK 500000 // nanoseconds
#define RLIMIT_NOFILE 7
#define SIG_IGN 1
#define NSIG 64
#define nameLen 11 // of GOMAXPROCS=

// func start()
//
// The kernel jumps here with argc on the stack, and above it argv, nil, the
// environment, nil, and the auxiliary vector. The runtime wants to find it like this.
TEXT ·start(SB), NOSPLIT|NOFRAME, $0
	SUB	$64, RSP

	// For each signal: rt_sigaction(n, nil, &old, 8), and a bit in ignored if
	// old.handler is SIG_IGN.
	MOVD	$0, R12
	MOVD	$1, R13
next:
	MOVD	R13, R0
	MOVD	$0, R1
	MOVD	RSP, R2
	MOVD	$8, R3
	MOVD	$SYS_rt_sigaction, R8
	SVC
	CBNZ	R0, more
	MOVD	0(RSP), R4
	CMP	$SIG_IGN, R4
	BNE	more
	SUB	$1, R13, R5
	MOVD	$1, R6
	LSL	R5, R6, R6
	ORR	R6, R12, R12
more:
	ADD	$1, R13, R13
	CMP	$NSIG, R13
	BLE	next
	MOVD	R12, ·ignored(SB)
	MOVD	$1, R4
	MOVB	R4, ·ran(SB)
	ADD	$64, RSP

	MOVD	$SIG_BLOCK, R0
	MOVD	$0, R1
	MOVD	$·blocked(SB), R2
	MOVD	$8, R3
	MOVD	$SYS_rt_sigprocmask, R8
	SVC

	// For each of the first three descriptors: fcntl(n, F_GETFD), and a bit in closed.
	MOVD	$0, R12
	MOVD	$0, R13
descriptor:
	MOVD	R13, R0
	MOVD	$F_GETFD, R1
	MOVD	$SYS_fcntl, R8
	SVC
	CMP	$0, R0
	BGE	open
	MOVD	$1, R6
	LSL	R13, R6, R6
	ORR	R6, R12, R12
open:
	ADD	$1, R13, R13
	CMP	$3, R13
	BLT	descriptor
	MOVB	R12, ·closed(SB)

	MOVD	·profiling(SB), R4
	MOVD	ZR, 0(R4)

	MOVD	$PR_GET_TIMERSLACK, R0
	MOVD	$SYS_prctl, R8
	SVC
	MOVD	R0, ·slack(SB)
	MOVD	$PR_SET_TIMERSLACK, R0
	MOVD	$SLACK, R1
	MOVD	$SYS_prctl, R8
	SVC

	// For a closed descriptor the runtime needs another one.
	CBNZ	R12, environment
	MOVD	$0, R0
	MOVD	$RLIMIT_NOFILE, R1
	MOVD	$0, R2
	MOVD	$·files(SB), R3
	MOVD	$SYS_prlimit64, R8
	SVC
	CBNZ	R0, environment
	MOVD	·files+8(SB), R4 // the hard limit stays
	MOVD	R4, ·none+8(SB)
	MOVD	$RLIMIT_NOFILE, R1
	MOVD	$·none(SB), R2
	MOVD	$0, R3
	MOVD	$SYS_prlimit64, R8
	SVC
	CBNZ	R0, environment
	MOVD	$1, R4
	MOVB	R4, ·limited(SB)
environment:

	// R1 goes through the environment, to the nil at its end.
	MOVD	0(RSP), R0
	ADD	$1, R0, R0
	MOVD	RSP, R2
	ADD	R0<<3, R2, R1
	ADD	$8, R1, R1
variable:
	MOVD	0(R1), R3
	CBZ	R3, shift
	MOVD	$·setting(SB), R4
	MOVD	$nameLen, R5
letter:
	MOVBU.P	1(R3), R6
	MOVBU.P	1(R4), R7
	CMP	R6, R7
	BNE	other
	SUB	$1, R5, R5
	CBNZ	R5, letter
	B	go // the user has set it
other:
	ADD	$8, R1, R1
	B	variable

	// Everything below that nil moves down by two words (the stack stays aligned),
	// which are the setting, twice.
shift:
	SUB	$16, RSP
	MOVD	RSP, R3
word:
	MOVD.P	8(R2), R4
	MOVD.P	R4, 8(R3)
	CMP	R1, R2
	BNE	word
	MOVD	$·setting(SB), R4
	MOVD	R4, 0(R3)
	MOVD	R4, 8(R3)
	MOVD	$1, R4
	MOVB	R4, ·narrowed(SB)
go:
	JMP	_rt0_arm64_linux(SB)

// func unlimit()
TEXT ·unlimit(SB), NOSPLIT, $0
	MOVBU	·limited(SB), R4
	CBZ	R4, unlimited
	MOVD	$0, R0
	MOVD	$RLIMIT_NOFILE, R1
	MOVD	$·files(SB), R2
	MOVD	$0, R3
	MOVD	$SYS_prlimit64, R8
	SVC
unlimited:
	RET

// func punctual()
TEXT ·punctual(SB), NOSPLIT, $0
	MOVD	·slack(SB), R1
	CMP	$0, R1
	BLE	unchanged
	MOVD	$PR_SET_TIMERSLACK, R0
	MOVD	$SYS_prctl, R8
	SVC
unchanged:
	RET

// func reblock()
TEXT ·reblock(SB), NOSPLIT, $0
	MOVD	·blocked(SB), R4
	CBZ	R4, none
	MOVD	$SIG_BLOCK, R0
	MOVD	$·blocked(SB), R1
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$SYS_rt_sigprocmask, R8
	SVC
none:
	RET
