package main

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A crash is not taken for a wrong configuration, after which systemd would not
// start it again (systemd/gladd.service, RestartPreventExitStatus).
func TestCrashEndsByASignal(t *testing.T) {
	p := start(t, newLine(t, "mqtt://127.0.0.1:1", 1).write())
	if err := unix.Prlimit(p.command.Process.Pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil); err != nil { // nobody wants its memory
		t.Fatal(err)
	}
	// As a fault in a library would.
	if err := p.command.Process.Signal(syscall.SIGSEGV); err != nil {
		t.Fatal(err)
	}
	code := p.wait()
	status, is := p.command.ProcessState.Sys().(syscall.WaitStatus)
	if !is || !status.Signaled() {
		t.Errorf("want an end by a signal, found exit code %d", code)
	}
}
