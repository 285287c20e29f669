//go:build linux && !portable

#include "textflag.h"

#define SYS_rt_sigaction 13
#define SYS_rt_sigprocmask 14
#define SIG_BLOCK 0
#define SYS_fcntl 72
#define SYS_prctl 157
#define SYS_prlimit64 302
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
	SUBQ	$64, SP

	// For each signal: rt_sigaction(n, nil, &old, 8), and a bit in ignored if
	// old.handler is SIG_IGN.
	XORL	R12, R12
	MOVL	$1, R13
next:
	MOVL	$SYS_rt_sigaction, AX
	MOVQ	R13, DI
	XORL	SI, SI
	MOVQ	SP, DX
	MOVL	$8, R10
	SYSCALL
	CMPQ	AX, $0
	JNE	more
	CMPQ	0(SP), $SIG_IGN
	JNE	more
	LEAQ	-1(R13), CX
	MOVL	$1, AX
	SHLQ	CX, AX
	ORQ	AX, R12
more:
	INCQ	R13
	CMPQ	R13, $NSIG
	JLE	next
	MOVQ	R12, ·ignored(SB)
	MOVB	$1, ·ran(SB)
	ADDQ	$64, SP

	MOVL	$SYS_rt_sigprocmask, AX
	MOVL	$SIG_BLOCK, DI
	XORL	SI, SI
	LEAQ	·blocked(SB), DX
	MOVL	$8, R10
	SYSCALL

	// For each of the first three descriptors: fcntl(n, F_GETFD), and a bit in closed.
	XORL	R12, R12
	XORL	R13, R13
descriptor:
	MOVL	$SYS_fcntl, AX
	MOVQ	R13, DI
	MOVL	$F_GETFD, SI
	SYSCALL
	CMPQ	AX, $0
	JGE	open
	MOVL	R13, CX
	MOVL	$1, AX
	SHLL	CX, AX
	ORL	AX, R12
open:
	INCQ	R13
	CMPQ	R13, $3
	JLT	descriptor
	MOVB	R12, ·closed(SB)

	MOVQ	·profiling(SB), AX
	MOVQ	$0, 0(AX)

	MOVL	$SYS_prctl, AX
	MOVL	$PR_GET_TIMERSLACK, DI
	SYSCALL
	MOVQ	AX, ·slack(SB)
	MOVL	$SYS_prctl, AX
	MOVL	$PR_SET_TIMERSLACK, DI
	MOVL	$SLACK, SI
	SYSCALL

	// For a closed descriptor the runtime needs another one.
	TESTL	R12, R12
	JNZ	environment
	MOVL	$SYS_prlimit64, AX
	XORL	DI, DI
	MOVL	$RLIMIT_NOFILE, SI
	XORL	DX, DX
	LEAQ	·files(SB), R10
	SYSCALL
	CMPQ	AX, $0
	JNE	environment
	MOVQ	·files+8(SB), AX // the hard limit stays
	MOVQ	AX, ·none+8(SB)
	MOVL	$SYS_prlimit64, AX
	LEAQ	·none(SB), DX
	XORL	R10, R10
	SYSCALL
	CMPQ	AX, $0
	JNE	environment
	MOVB	$1, ·limited(SB)
environment:

	// SI goes through the environment, to the nil at its end.
	MOVQ	0(SP), CX
	LEAQ	16(SP)(CX*8), SI
variable:
	MOVQ	0(SI), AX
	TESTQ	AX, AX
	JZ	shift
	LEAQ	·setting(SB), BX
	MOVL	$nameLen, CX
letter:
	MOVB	0(AX), DX
	CMPB	DX, 0(BX)
	JNE	other
	INCQ	AX
	INCQ	BX
	DECL	CX
	JNZ	letter
	JMP	go // the user has set it
other:
	ADDQ	$8, SI
	JMP	variable

	// Everything below that nil moves down by two words (the stack stays aligned),
	// which are the setting, twice.
shift:
	MOVQ	SI, CX
	SUBQ	SP, CX
	SHRQ	$3, CX
	MOVQ	SP, SI
	SUBQ	$16, SP
	MOVQ	SP, DI
	CLD
	REP; MOVSQ
	LEAQ	·setting(SB), AX
	MOVQ	AX, 0(DI)
	MOVQ	AX, 8(DI)
	MOVB	$1, ·narrowed(SB)
go:
	JMP	_rt0_amd64_linux(SB)

// func unlimit()
TEXT ·unlimit(SB), NOSPLIT, $0
	CMPB	·limited(SB), $0
	JEQ	unlimited
	MOVL	$SYS_prlimit64, AX
	XORL	DI, DI
	MOVL	$RLIMIT_NOFILE, SI
	LEAQ	·files(SB), DX
	XORL	R10, R10
	SYSCALL
unlimited:
	RET

// func punctual()
TEXT ·punctual(SB), NOSPLIT, $0
	MOVQ	·slack(SB), SI
	CMPQ	SI, $0
	JLE	unchanged
	MOVL	$SYS_prctl, AX
	MOVL	$PR_SET_TIMERSLACK, DI
	SYSCALL
unchanged:
	RET

// func reblock()
TEXT ·reblock(SB), NOSPLIT, $0
	CMPQ	·blocked(SB), $0
	JEQ	none
	MOVL	$SYS_rt_sigprocmask, AX
	MOVL	$SIG_BLOCK, DI
	LEAQ	·blocked(SB), SI
	XORL	DX, DX
	MOVL	$8, R10
	SYSCALL
none:
	RET
