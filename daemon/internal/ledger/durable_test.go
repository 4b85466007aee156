package ledger

import "testing"

// Every commit waits for the disk: what was answered survives a power cut.
func TestCommitsWaitForTheDisk(t *testing.T) {
	l := newLedger(t)
	for pragma, want := range map[string]string{
		"synchronous":  "2", // FULL (sqlite.org/pragma.html)
		"journal_mode": "wal",
	} {
		var found string
		if err := l.writer.QueryRowContext(t.Context(), `PRAGMA `+pragma).Scan(&found); err != nil || found != want {
			t.Errorf("%s: want %s, found %s, %v", pragma, want, found, err)
		}
	}
}
