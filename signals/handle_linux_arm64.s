//go:build linux && !portable

#include "textflag.h"

#define SYS_write 64
#define SYS_kill 129
#define SYS_rt_sigaction 134
#define SYS_getpid 172
#define infoSize 32

// The kernel calls it with C's conventions: R0 is the signal, R1 its siginfo. It
// returns to where the kernel has put R30: the vDSO's rt_sigreturn, which restores
// all registers.
TEXT ·handler(SB), NOSPLIT|NOFRAME, $0
	MOVD	R0, R19
	MOVD	$SYS_getpid, R8
	SVC
	MOVW	·self(SB), R3
	CMPW	R3, R0
	BNE	forked
	MOVW	·wireFD(SB), R0
	MOVD	$infoSize, R2
	MOVD	$SYS_write, R8
	SVC
	RET

	// rt_sigaction(sig, &byDefault, nil, 8); kill(getpid(), sig), which is blocked
	// until we return.
forked:
	MOVD	R0, R20
	MOVD	R19, R0
	MOVD	$·byDefault(SB), R1
	MOVD	$0, R2
	MOVD	$8, R3
	MOVD	$SYS_rt_sigaction, R8
	SVC
	MOVD	R20, R0
	MOVD	R19, R1
	MOVD	$SYS_kill, R8
	SVC
	RET

// si_code is positive if the kernel sends the signal, not a process.
TEXT ·faultHandler(SB), NOSPLIT|NOFRAME, $0
	MOVW	8(R1), R3
	CMPW	$0, R3
	BLE	sent
	MOVD	·runtimeHandler(SB), R3
	JMP	(R3)
sent:
	JMP	·handler(SB)

// func entries() (handler, faultHandler, restorer uintptr)
TEXT ·entries(SB), NOSPLIT, $0-24
	MOVD	$·handler(SB), R0
	MOVD	R0, handler+0(FP)
	MOVD	$·faultHandler(SB), R0
	MOVD	R0, faultHandler+8(FP)
	MOVD	ZR, restorer+16(FP)
	RET
