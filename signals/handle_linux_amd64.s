//go:build linux && !portable

#include "textflag.h"

#define SYS_write 1
#define SYS_rt_sigaction 13
#define SYS_rt_sigreturn 15
#define SYS_getpid 39
#define SYS_kill 62
#define infoSize 32

// The kernel calls it with C's conventions: DI is the signal, SI its siginfo. All
// registers are restored afterwards.
TEXT ·handler(SB), NOSPLIT|NOFRAME, $0
	MOVL	DI, R12
	MOVL	$SYS_getpid, AX
	SYSCALL
	CMPL	AX, ·self(SB)
	JNE	forked
	MOVL	·wireFD(SB), DI
	MOVL	$infoSize, DX
	MOVL	$SYS_write, AX
	SYSCALL
	RET

	// rt_sigaction(sig, &byDefault, nil, 8); kill(getpid(), sig), which is blocked
	// until we return.
forked:
	MOVL	AX, R13
	MOVL	R12, DI
	LEAQ	·byDefault(SB), SI
	XORL	DX, DX
	MOVL	$8, R10
	MOVL	$SYS_rt_sigaction, AX
	SYSCALL
	MOVL	R13, DI
	MOVL	R12, SI
	MOVL	$SYS_kill, AX
	SYSCALL
	RET

// si_code is positive if the kernel sends the signal, not a process.
TEXT ·faultHandler(SB), NOSPLIT|NOFRAME, $0
	CMPL	8(SI), $0
	JLE	sent
	MOVQ	·runtimeHandler(SB), AX
	JMP	AX
sent:
	JMP	·handler(SB)

TEXT restorer(SB), NOSPLIT|NOFRAME, $0
	MOVL	$SYS_rt_sigreturn, AX
	SYSCALL
	INT	$3

// func entries() (handler, faultHandler, restorer uintptr)
TEXT ·entries(SB), NOSPLIT, $0-24
	LEAQ	·handler(SB), AX
	MOVQ	AX, handler+0(FP)
	LEAQ	·faultHandler(SB), AX
	MOVQ	AX, faultHandler+8(FP)
	LEAQ	restorer(SB), AX
	MOVQ	AX, restorer+16(FP)
	RET
