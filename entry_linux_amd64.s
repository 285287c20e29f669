#include "textflag.h"

#define SYS_rt_sigaction 13
#define SIG_IGN 1
#define NSIG 64

// func entry()
//
// The kernel jumps here with argc and argv on the stack, which the runtime wants
// to find untouched. For each signal: rt_sigaction(n, nil, &old, 8), and a bit in
// ignored if old.handler is SIG_IGN.
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
	SUBQ	$64, SP
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
	ADDQ	$64, SP
	JMP	_rt0_amd64_linux(SB)
