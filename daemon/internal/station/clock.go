package station

import (
	"golang.org/x/sys/unix"

	"gladd/daemon/internal/verdict"
)

// SystemClock asks the kernel whether a time service keeps the wall clock, and
// what correction is still under way (adjtimex(2)).
func SystemClock() verdict.Clock {
	var state unix.Timex
	if _, err := unix.Adjtimex(&state); err != nil {
		return verdict.Clock{}
	}
	offset := float64(state.Offset) / 1e3 // microseconds
	if state.Status&unix.STA_NANO != 0 {
		offset /= 1e3
	}
	return verdict.Clock{Synchronized: state.Status&unix.STA_UNSYNC == 0, OffsetMS: &offset}
}
