#include "textflag.h"

#define SYS_rt_sigaction 134
#define SIG_IGN 1
#define NSIG 64

// func entry()
//
// The kernel jumps here with argc and argv on the stack, which the runtime wants
// to find untouched. For each signal: rt_sigaction(n, nil, &old, 8), and a bit in
// ignored if old.handler is SIG_IGN.
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0
	SUB	$64, RSP
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
	ADD	$64, RSP
	JMP	_rt0_arm64_linux(SB)
