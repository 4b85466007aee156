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

func footprintOf(p *process) (found footprint) {
	p.t.Helper()
	folder := fmt.Sprintf("/proc/%d/", p.command.Process.Pid)
	status, err := os.ReadFile(folder + "status")
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		switch name, value, _ := strings.Cut(line, ":"); name {
		case "VmRSS":
			fmt.Sscan(value, &found.resident) //nolint:errcheck // 0 would be seen
			found.resident /= 1024
		case "Threads":
			fmt.Sscan(value, &found.threads) //nolint:errcheck // 0 would be seen
		}
	}
	files, err := os.ReadDir(folder + "fd")
	if err != nil {
		p.t.Fatal(err)
	}
	found.files = len(files)
	return found
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
