package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// footprint is what a process holds.
type footprint struct {
	resident float64 // MiB
	files    int
	threads  int
}

func footprintOf(p *process) footprint {
	p.t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.command.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return footprint{resident: p.status("VmRSS") / 1024, files: len(files), threads: int(p.status("Threads"))}
}

func (f footprint) String() string {
	return fmt.Sprintf("%.1f MiB, %d files, %d threads", f.resident, f.files, f.threads)
}

// checkFlat checks that nothing grew that counts. What the runtime, SQLite's
// caches and its up to four readers take is not there from the beginning; a
// leak of 1 MiB at each connection would be found, and one of 10 KiB a part.
// Memory counts in the long form only: it takes that long, and 'make test' has
// the race detector's memory in it.
func (f footprint) checkFlat(t *testing.T, late footprint) {
	t.Helper()
	if long() && late.resident > f.resident+12 || late.files > f.files+8 || late.threads > f.threads+8 {
		t.Errorf("want it flat: %v, later %v", f, late)
	}
}

// forgetPeak has peak look at what comes from now on.
func (p *process) forgetPeak() {
	p.t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.command.Process.Pid), []byte("5"), 0); err != nil { // proc(5)
		p.t.Fatal(err)
	}
}

// peak is the most memory, in MiB, that the process had at a time.
func (p *process) peak() float64 {
	p.t.Helper()
	return p.status("VmHWM") / 1024
}

// status is a number of the process's status, as /proc has it.
func (p *process) status(key string) (value float64) {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if name, text, _ := strings.Cut(line, ":"); name == key {
			if _, err := fmt.Sscan(text, &value); err != nil {
				p.t.Fatalf("%s: %v", line, err)
			}
			return value
		}
	}
	p.t.Fatalf("no %s in\n%s", key, status)
	return 0
}
