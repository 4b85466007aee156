package mes

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// A flood is let through up to the limit; what is beyond is counted, and the
// log tells of it once.
func TestLimit(t *testing.T) {
	durable, err := ledger.Open(t.Context(), ledger.Options{Path: filepath.Join(t.TempDir(), "ledger.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer durable.Close() //nolint:errcheck // the test is over
	var log strings.Builder
	client := New(Options{Site: "p", Line: "l", Ledger: durable, Log: slog.New(slog.NewTextHandler(&log, nil))})
	client.limits["st-01"], client.limits["st-02"] = newLimit(), newLimit()
	const sent = 5000
	admitted := 0
	for range sent {
		if client.admit("st-01", "start", []byte(`{}`)) {
			admitted++
		}
	}
	// As many as may come at once, and some more: time passes.
	if admitted < commandsAtOnce || admitted > sent/2 {
		t.Errorf("of %d, %d were let through", sent, admitted)
	}
	counted := func(source string, code verdict.RefusalCode, want int) {
		t.Helper()
		found := int64(0)
		for range 2000 { // those with a reply are counted with it
			counters, err := durable.Counters(source)
			if err != nil {
				t.Fatal(err)
			}
			if found = counters.Refusals[code]; found == int64(want) {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Errorf("%s: want %d refused, %s, found %d", source, want, code, found)
	}
	counted("/p/l/st-01", verdict.RefusedBusy, sent-admitted)
	if !client.admit("st-01", "halt", nil) {
		t.Error("whoever starts too much must be able to halt")
	}
	if !client.admit("st-02", "start", nil) {
		t.Error("a flood at one station is no reason to refuse at another")
	}
	if client.admit("st-02", "start", make([]byte, verdict.MaxCommandBytes+1)) || !client.admit("st-02", "start", make([]byte, verdict.MaxCommandBytes)) {
		t.Error("the limit of length is not kept")
	}
	counted("/p/l/st-02", verdict.RefusedInvalid, 1)
	if told := log.String(); strings.Count(told, "commands were refused at once") != 2 ||
		!strings.Contains(told, `station=st-01 count=1 reason=busy detail="more than 200 starts a second"`) {
		t.Errorf("found log %s", told)
	}
}
