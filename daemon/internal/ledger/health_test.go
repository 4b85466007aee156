package ledger

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gladd/daemon/internal/verdict"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// openQuick opens a ledger that probes often, so that tests need not wait.
func openQuick(t testing.TB, path string) *Ledger {
	t.Helper()
	l := openTest(t, path)
	l.health.probeEvery = 5 * time.Millisecond
	return l
}

// notices are the ledger's, each as the health that it found.
func notices(t testing.TB, l *Ledger) <-chan error {
	t.Helper()
	came := make(chan error, 10_000)
	t.Cleanup(l.WatchHealth(func() { came <- l.Health() }))
	return came
}

// waitHealth waits for a notice that the ledger works, or does not.
func waitHealth(t testing.TB, came <-chan error, works bool) error {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case err := <-came:
			if (err == nil) == works {
				return err
			}
		case <-timeout:
			t.Fatalf("want the ledger to work: %t; it did not come so", works)
		}
	}
}

// fillDisk writes a file until there is not a byte left.
func fillDisk(t testing.TB, dir string) (filler string) {
	t.Helper()
	filler = filepath.Join(dir, "filler")
	file, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for err == nil {
		_, err = file.Write(make([]byte, 4096))
	}
	return filler
}

// beginUntilFull begins triggers until that fails: what was reserved before is
// used up first.
func beginUntilFull(t testing.TB, l *Ledger) error {
	t.Helper()
	for range 1000 {
		if _, _, err := l.Begin(source, draft("")); err != nil {
			return err
		}
	}
	t.Fatal("a full disk takes everything")
	return nil
}

// With room again, the ledger finds it out by itself.
func TestHealsByItself(t *testing.T) {
	dir := tmpfs(t, "2m")
	l := openQuick(t, filepath.Join(dir, "ledger.db"))
	came := notices(t, l)
	if err := l.Health(); err != nil {
		t.Fatal(err)
	}
	filler := fillDisk(t, dir)
	if err := beginUntilFull(t, l); !IsFull(err) {
		t.Errorf("want a full disk, found %v", err)
	}
	if err := waitHealth(t, came, false); err == nil || !IsFull(err) || !strings.Contains(err.Error(), "database or disk is full") {
		t.Errorf("want a full disk, found %v", err)
	}
	if _, err := l.Refuse(source, verdict.Reply{Reason: &verdict.Refusal{Code: verdict.RefusedLedger}}); err == nil {
		t.Error("a refusal cannot be written")
	}
	for range 3 { // told again with every probe that fails
		waitHealth(t, came, false) //nolint:errcheck // it is waited for
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	waitHealth(t, came, true) //nolint:errcheck // it is waited for
	begin(t, l, "")
	var written, probes int
	if err := l.reads.QueryRow(`SELECT (SELECT count FROM counters WHERE name = 'ledger'), (SELECT count(*) FROM meta WHERE key = 'probe')`).Scan(&written, &probes); err != nil || written != 1 || probes != 0 {
		t.Errorf("want the refusal written and no probe left, found %d and %d, %v", written, probes, err)
	}
}

// A probe takes as much of the log as it says; otherwise its success would mean
// nothing.
func TestProbeTakesSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openTest(t, path)
	size := func() int64 {
		info, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for range 3 { // with free pages in the file, too
		before := size()
		if err := l.probe(); err != nil {
			t.Fatal(err)
		}
		if grown := size() - before; grown < probeBytes {
			t.Errorf("want at least %d bytes written, found %d", probeBytes, grown)
		}
	}
}

// A write that is wrong in itself says nothing of the ledger.
func TestWrongWrites(t *testing.T) {
	l := newLedger(t)
	record := begin(t, l, "")
	if _, _, err := l.Begin(source, record); err == nil {
		t.Error("a trigger cannot begin twice")
	}
	if err := l.Health(); err != nil {
		t.Errorf("the ledger works: found %v", err)
	}
}

// readOnly has a connection refuse every write, as SQLite does on a file system
// that became read-only.
func readOnly(t testing.TB, l *Ledger, on bool) {
	t.Helper()
	value := map[bool]string{true: "1", false: "0"}[on]
	if err := l.commit(func(tx transaction) error { return tx.exec(`PRAGMA query_only = ` + value) }); err != nil {
		t.Fatal(err)
	}
}

func TestBecomesReadOnly(t *testing.T) {
	l := openQuick(t, filepath.Join(t.TempDir(), "ledger.db"))
	came := notices(t, l)
	unfinished := begin(t, l, "")
	readOnly(t, l, true)
	if _, _, err := l.Begin(source, draft("")); err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Errorf("want a read-only ledger, found %v", err)
	}
	if err := waitHealth(t, came, false); IsFull(err) {
		t.Errorf("want a ledger that is read-only, not full; found %v", err)
	}
	// The connection is the writer's own: nobody else may use it now.
	if _, err := l.writer.ExecContext(context.Background(), `PRAGMA query_only = 0`); err != nil {
		t.Fatal(err)
	}
	waitHealth(t, came, true) //nolint:errcheck // it is waited for
	finish(t, l, unfinished, verdict.OK)
}

func TestIsFull(t *testing.T) {
	for err, want := range map[error]bool{
		&os.PathError{Op: "write", Err: syscall.ENOSPC}: true, &os.PathError{Op: "write", Err: syscall.EDQUOT}: true,
		&os.PathError{Op: "write", Err: syscall.EROFS}: false, ErrClosed: false,
	} {
		if found := IsFull(err); found != want {
			t.Errorf("%v: want %t, found %t", err, want, found)
		}
	}
}
