package mes

import (
	"testing"
	"time"
)

// Attempts come ever less often, up to a limit, and not in step; the first one
// within a second.
func TestBackoff(t *testing.T) {
	const boxes = 200
	want := []time.Duration{500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000}
	shortest, longest := make([]time.Duration, len(want)), make([]time.Duration, len(want))
	for range boxes {
		var pause backoff
		for i, limit := range want {
			found := pause.next()
			if limit *= time.Millisecond; found < limit/2 || found >= limit {
				t.Fatalf("attempt %d: want %s to %s, found %s", i, limit/2, limit, found)
			}
			if shortest[i] == 0 || found < shortest[i] {
				shortest[i] = found
			}
			longest[i] = max(longest[i], found)
		}
	}
	for i, limit := range want {
		// Two hundred draws leave no tenth of the range empty at both ends: that
		// would happen once in 10^9 times.
		if limit *= time.Millisecond; longest[i]-shortest[i] < limit/2*8/10 {
			t.Errorf("attempt %d: all boxes wait between %s and %s", i, shortest[i], longest[i])
		}
	}
	if longest[0] > time.Second {
		t.Errorf("the first attempt comes after %s", longest[0])
	}
}
