package say

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// child is what the test binary does as a child.
func child() {
	kind := os.Getenv("SAY_TEST_CHILD")
	switch kind {
	case "leader":
		// The leader of the terminal's session starts us again in the background.
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "SAY_TEST_CHILD="+os.Getenv("SAY_TEST_THEN"))
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := c.Start(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(c.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || status != 0 {
			fmt.Println("status", status, "stopped", status.Stopped(), err)
			_ = c.Process.Kill()
			os.Exit(1)
		}
		return
	case "handled":
		signal.Notify(make(chan os.Signal, 1), syscall.SIGTTOU)
	}
	w := To(2)
	fmt.Fprintln(w, "hello")
	if !w.Flush(time.Minute) {
		os.Exit(1)
	}
	fmt.Fprintln(w, "again")
	w.Flush(time.Minute)
	fmt.Println("goes on")
}
