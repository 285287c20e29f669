#include "textflag.h"

#define SYS_sched_setaffinity 122
#define SYS_sched_getaffinity 123
#define SYS_rt_sigaction 134
#define SYS_getcpu 168
#define SIG_IGN 1
#define NSIG 64
#define setBytes 128

// func start()
//
// The kernel jumps here with argc and argv on the stack, which the runtime wants
// to find untouched.
TEXT ·start(SB), NOSPLIT|NOFRAME, $0
	SUB	$256, RSP

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

	// sched_getaffinity(0, setBytes, &affinity): fails if there are more processors.
	MOVD	$0, R0
	MOVD	$setBytes, R1
	MOVD	$·affinity(SB), R2
	MOVD	$SYS_sched_getaffinity, R8
	SVC
	CMP	$0, R0
	BLE	go

	// getcpu(&cpu, nil, nil)
	ADD	$setBytes, RSP, R0
	MOVD	$0, R1
	MOVD	$0, R2
	MOVD	$SYS_getcpu, R8
	SVC
	CBNZ	R0, go

	// sched_setaffinity(0, setBytes, &set), the set being that one processor.
	MOVD	RSP, R4
	MOVD	$(setBytes/8), R5
zero:
	MOVD	ZR, (R4)
	ADD	$8, R4, R4
	SUB	$1, R5, R5
	CBNZ	R5, zero
	MOVWU	setBytes(RSP), R6
	LSR	$6, R6, R7
	MOVD	RSP, R4
	ADD	R7<<3, R4, R4
	MOVD	$1, R5
	LSL	R6, R5, R5
	MOVD	R5, (R4)
	MOVD	$0, R0
	MOVD	$setBytes, R1
	MOVD	RSP, R2
	MOVD	$SYS_sched_setaffinity, R8
	SVC

go:
	ADD	$256, RSP
	JMP	_rt0_arm64_linux(SB)
