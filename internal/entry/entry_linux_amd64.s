#include "textflag.h"

#define SYS_rt_sigaction 13
#define SYS_sched_setaffinity 203
#define SYS_sched_getaffinity 204
#define SYS_getcpu 309
#define SIG_IGN 1
#define NSIG 64
#define setBytes 128

// func start()
//
// The kernel jumps here with argc and argv on the stack, which the runtime wants
// to find untouched.
TEXT ·start(SB), NOSPLIT|NOFRAME, $0
	SUBQ	$256, SP

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

	// sched_getaffinity(0, setBytes, &affinity): fails if there are more processors.
	MOVL	$SYS_sched_getaffinity, AX
	XORL	DI, DI
	MOVL	$setBytes, SI
	LEAQ	·affinity(SB), DX
	SYSCALL
	CMPQ	AX, $0
	JLE	go

	// getcpu(&cpu, nil, nil)
	MOVL	$SYS_getcpu, AX
	LEAQ	setBytes(SP), DI
	XORL	SI, SI
	XORL	DX, DX
	SYSCALL
	CMPQ	AX, $0
	JNE	go

	// sched_setaffinity(0, setBytes, &set), the set being that one processor.
	XORL	AX, AX
	MOVL	$(setBytes/8), CX
zero:
	MOVQ	AX, -8(SP)(CX*8)
	DECQ	CX
	JNZ	zero
	MOVL	setBytes(SP), AX
	BTSQ	AX, 0(SP)
	MOVL	$SYS_sched_setaffinity, AX
	XORL	DI, DI
	MOVL	$setBytes, SI
	MOVQ	SP, DX
	SYSCALL

go:
	ADDQ	$256, SP
	JMP	_rt0_amd64_linux(SB)
