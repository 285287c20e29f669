#include "textflag.h"

#define SYS_write 1
#define SYS_rt_sigreturn 15
#define infoSize 32

// The kernel calls it with C's conventions: DI is the signal, SI its siginfo.
TEXT ·handler(SB), NOSPLIT|NOFRAME, $0
	MOVL	·wireFD(SB), DI
	MOVL	$infoSize, DX
	MOVL	$SYS_write, AX
	SYSCALL
	RET

TEXT restorer(SB), NOSPLIT|NOFRAME, $0
	MOVL	$SYS_rt_sigreturn, AX
	SYSCALL
	INT	$3

// func entries() (handler, restorer uintptr)
TEXT ·entries(SB), NOSPLIT, $0-16
	LEAQ	·handler(SB), AX
	MOVQ	AX, handler+0(FP)
	LEAQ	restorer(SB), AX
	MOVQ	AX, restorer+8(FP)
	RET
