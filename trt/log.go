//go:build tensorrt && cgo && linux

package trt

/*
#include <stdlib.h>
#include "trt.h"
*/
import "C"

import (
	"context"
	"log/slog"
	"sync"
)

// levelVerbose is that of TensorRT's most talkative lines, of which a build
// writes tens of thousands.
const levelVerbose = slog.LevelDebug - 4

// logDrain passes TensorRT's lines on from the ring that they are written to.
type logDrain struct {
	native *C.gladd_trt_log
	to     *slog.Logger

	mutex sync.Mutex
	lines [16]C.gladd_trt_line
}

// always is the context of log lines: what TensorRT says is written whether a call
// was canceled or not.
var always = context.Background()

func newLogDrain(native *C.gladd_trt_log, to *slog.Logger) *logDrain {
	severity := 3
	if to.Enabled(always, levelVerbose) {
		severity = 4
	}
	C.gladd_trt_log_level(native, C.int(severity))
	return &logDrain{native: native, to: to}
}

// severities are those of ILogger. Errors are warnings here: the call that
// failed returns the first of them, which is logged where it is handled.
var severities = []struct {
	name  string
	level slog.Level
}{
	{"internal error", slog.LevelWarn},
	{"error", slog.LevelWarn},
	{"warning", slog.LevelWarn},
	{"info", slog.LevelDebug},
	{"verbose", levelVerbose},
}

func (d *logDrain) drain() {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	for {
		var dropped C.uint64_t
		n := int(C.gladd_trt_log_drain(d.native, &d.lines[0], C.int(len(d.lines)), &dropped))
		for i := range n {
			severity := severities[min(max(int(d.lines[i].severity), 0), len(severities)-1)]
			d.to.Log(always, severity.level, "TensorRT says", "severity", severity.name, "text", C.GoString(&d.lines[i].text[0]))
		}
		if dropped > 0 {
			d.to.WarnContext(always, "TensorRT wrote more than was read; lines are lost", "lines", uint64(dropped))
		}
		if n < len(d.lines) {
			return
		}
	}
}
