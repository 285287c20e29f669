#include "textflag.h"

#define SYS_write 64
#define infoSize 32

// The kernel calls it with C's conventions: R0 is the signal, R1 its siginfo. It
// returns to where the kernel has put R30: the vDSO's rt_sigreturn.
TEXT ·handler(SB), NOSPLIT|NOFRAME, $0
	MOVW	·wireFD(SB), R0
	MOVD	$infoSize, R2
	MOVD	$SYS_write, R8
	SVC
	RET

// func entries() (handler, restorer uintptr)
TEXT ·entries(SB), NOSPLIT, $0-16
	MOVD	$·handler(SB), R0
	MOVD	R0, handler+0(FP)
	MOVD	ZR, restorer+8(FP)
	RET
