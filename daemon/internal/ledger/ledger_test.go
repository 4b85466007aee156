package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"gladd/daemon/internal/verdict"
)

const source = "/p/l/st-01"

func openTest(t testing.TB, path string) *Ledger {
	t.Helper()
	l, err := Open(context.Background(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func newLedger(t testing.TB) *Ledger { return openTest(t, filepath.Join(t.TempDir(), "ledger.db")) }

// draft is a trigger as a station would record it.
func draft(command string) *verdict.Record {
	record := &verdict.Record{
		TriggerID: ulid.Make().String(), Kind: "view", Attempt: 1, Purpose: verdict.Production, Evaluation: verdict.Undefined,
		Context: json.RawMessage(`{"a":1}`), Times: verdict.Times{Triggered: verdict.Time{Time: time.Now()}},
	}
	if command != "" {
		record.CommandID = &command
	}
	return record
}

func begin(t testing.TB, l *Ledger, command string) *verdict.Record {
	t.Helper()
	record := draft(command)
	reply, repeated, err := l.Begin(source, record)
	if err != nil || repeated || !reply.Accepted || *reply.TriggerID != record.TriggerID {
		t.Fatalf("begin: %+v, %t, %v", reply, repeated, err)
	}
	return record
}

func finish(t testing.TB, l *Ledger, record *verdict.Record, evaluation verdict.Evaluation) {
	t.Helper()
	record.Evaluation, record.ResultState = evaluation, verdict.Completed
	record.Times.Finished = verdict.Time{Time: time.Now()}
	if err := l.Finish(source, record, time.Time{}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestOneRecordForEveryTrigger(t *testing.T) {
	l := newLedger(t)
	var want []string
	for i := range 5 {
		record := begin(t, l, "")
		finish(t, l, record, verdict.OK)
		if record.Sequence != int64(i+1) || record.LedgerID != l.ID() || record.ResultID == "" {
			t.Errorf("found sequence %d, ledger %q, result %q", record.Sequence, record.LedgerID, record.ResultID)
		}
		want = append(want, record.ResultID)
	}
	for _, resultID := range want {
		entry, err := l.Next(source, 0)
		if err != nil || entry == nil || entry.ResultID != resultID {
			t.Fatalf("want %s next, found %+v, %v", resultID, entry, err)
		}
		var record verdict.Record
		if err := json.Unmarshal(entry.Record, &record); err != nil || record.Sequence != entry.Sequence || string(record.Context) != `{"a":1}` {
			t.Errorf("the record is whole: %v, %+v", err, record)
		}
		if err := l.Delivered(entry); err != nil {
			t.Fatal(err)
		}
	}
	if entry, err := l.Next(source, 0); entry != nil || err != nil {
		t.Errorf("the outbox is empty, found %+v, %v", entry, err)
	}
	counters, err := l.Counters(source)
	if err != nil || counters.Accepted != 5 || counters.Evaluations[verdict.OK] != 5 || counters.Evaluations[verdict.NotOK] != 0 {
		t.Errorf("found %+v, %v", counters, err)
	}
}

func TestCommandsAreAnsweredOnce(t *testing.T) {
	l := newLedger(t)
	record := begin(t, l, "c-1")
	reply, repeated, err := l.Begin(source, draft("c-1"))
	if err != nil || !repeated || *reply.TriggerID != record.TriggerID {
		t.Errorf("the first reply again: found %+v, %t, %v", reply, repeated, err)
	}
	other, repeated, err := l.Begin("/p/l/st-02", draft("c-1"))
	if err != nil || repeated || *other.TriggerID == record.TriggerID {
		t.Errorf("another station's commands are its own: found %+v, %t, %v", other, repeated, err)
	}
	id := "c-2"
	refusal := verdict.Reply{CommandID: &id, Reason: &verdict.Refusal{Code: verdict.RefusedBusy, Detail: "full"}}
	for range 2 {
		if reply, err := l.Refuse(source, refusal); err != nil || reply.Accepted || reply.Reason.Code != verdict.RefusedBusy {
			t.Errorf("found %+v, %v", reply, err)
		}
		refusal.Reason = &verdict.Refusal{Code: verdict.RefusedExpired}
	}
	if reply, repeated, err := l.Begin(source, draft("c-2")); err != nil || !repeated || reply.Accepted {
		t.Errorf("a refused command stays refused: found %+v, %t, %v", reply, repeated, err)
	}
	counters, err := l.Counters(source)
	if err != nil || counters.Refusals[verdict.RefusedBusy] != 1 || counters.Refusals[verdict.RefusedExpired] != 0 || counters.Accepted != 1 {
		t.Errorf("repetitions count nothing: found %+v, %v", counters, err)
	}
}

func TestRecover(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	l := openTest(t, path)
	images := func() *Images { return NewImages(l, filepath.Join(dir, "images"), 1<<30) }
	finish(t, l, begin(t, l, ""), verdict.NotOK)
	var unfinished []string
	var picture bytes.Buffer
	rgba := image.NewRGBA(image.Rect(0, 0, 3, 2))
	for i := range rgba.Pix {
		rgba.Pix[i] = byte(40 * (i % 4))
		if i%4 == 3 {
			rgba.Pix[i] = 0xff
		}
	}
	if err := png.Encode(&picture, rgba); err != nil {
		t.Fatal(err)
	}
	// One with its picture, one with half of it, one without.
	for i := range 3 {
		record := begin(t, l, "")
		unfinished = append(unfinished, record.TriggerID)
		content := picture.Bytes()
		if i == 1 {
			content = content[:len(content)/2]
		}
		if i == 2 {
			continue
		}
		stored, err := images().Store("st-01", record.TriggerID, record.Times.Triggered.Time, content)
		if err != nil {
			t.Fatal(err)
		}
		half := filepath.Join(dir, "images", filepath.Dir(stored.path), "."+filepath.Base(stored.path)+"123")
		if err := os.WriteFile(half, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	id := l.ID()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, path)
	if l.ID() != id {
		t.Errorf("the ledger's id stays: want %s, found %s", id, l.ID())
	}
	for _, want := range []int{3, 0} {
		if recovered, err := l.Recover(time.Now(), images()); err != nil || recovered != want {
			t.Fatalf("want %d recovered, found %d, %v", want, recovered, err)
		}
	}
	for i, triggerID := range unfinished {
		content, err := l.Record(triggerID)
		var record verdict.Record
		if err != nil || json.Unmarshal(content, &record) != nil {
			t.Fatalf("record of %s: %s, %v", triggerID, content, err)
		}
		if record.Evaluation != verdict.Undefined || record.Reason.Code != verdict.ReasonRestarted || record.ResultState != verdict.Aborted ||
			record.Sequence != int64(i+2) || record.Part.ID != nil {
			t.Errorf("found %+v", record)
		}
		if i > 0 {
			if record.Image != nil {
				t.Errorf("found a picture %+v", record.Image)
			}
			continue
		}
		sum := sha256.Sum256(bytes.Repeat([]byte{0, 40, 80}, 6))
		if record.Image == nil || !record.Image.Kept || record.Image.Width != 3 || record.Image.Height != 2 || record.Image.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("the picture is evidence: found %+v", record.Image)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "images", "*", "*", "*"))
	if err != nil || len(files) != 1 {
		t.Errorf("want the one whole picture, found %v", files)
	}
	var noted int
	if err := l.reads.QueryRow(`SELECT count(*) FROM images`).Scan(&noted); err != nil || noted != 1 {
		t.Errorf("want it noted, found %d, %v", noted, err)
	}
}

func TestLate(t *testing.T) {
	l := newLedger(t)
	record := begin(t, l, "")
	record.Evaluation, record.ResultState = verdict.OK, verdict.Completed
	if err := l.Finish(source, record, time.Now().Add(-time.Millisecond), nil); err != nil {
		t.Fatal(err)
	}
	if record.Evaluation != verdict.Undefined || record.Reason.Code != verdict.ReasonDeadline {
		t.Errorf("never a late OK: found %s, %v", record.Evaluation, record.Reason)
	}
}

// A commit that itself takes too long is found out only afterwards. Nobody may
// have seen the record by then.
func TestLateByItsCommit(t *testing.T) {
	l := newLedger(t)
	record := begin(t, l, "")
	record.Evaluation, record.ResultState = verdict.OK, verdict.Completed
	// The batch is held up behind an operation, whose commit passes the deadline.
	deadline := time.Now().Add(100 * time.Millisecond)
	inside, release := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() { first <- l.commit(func(transaction) error { close(inside); <-release; return nil }) }()
	<-inside
	finished := make(chan error, 1)
	go func() { finished <- l.Finish(source, record, deadline, nil) }()
	// A third operation shares the record's batch and ends after the deadline.
	for len(l.pending) == 0 {
		time.Sleep(time.Millisecond)
	}
	third := make(chan error, 1)
	go func() {
		third <- l.commit(func(transaction) error { <-time.After(time.Until(deadline) + 5*time.Millisecond); return nil })
	}()
	for len(l.pending) < 2 {
		time.Sleep(time.Millisecond)
	}
	seen := make(chan *Entry, 100)
	defer l.Watch(func(string) {
		if entry, err := l.Next(source, 0); err == nil {
			seen <- entry
		}
	})()
	// Whoever looks all the time must not see the OK that it was.
	var lookers sync.WaitGroup
	ended := make(chan struct{})
	lookers.Go(func() {
		for {
			select {
			case <-ended:
				return
			default:
			}
			entry, err := l.Next(source, 0)
			if err != nil {
				t.Error(err)
			}
			content, err := l.Record(record.TriggerID)
			if err != nil {
				t.Error(err)
			}
			if entry != nil {
				content = entry.Record
			}
			if bytes.Contains(content, []byte(`"evaluation":"OK"`)) {
				t.Error("a late OK was seen")
				return
			}
		}
	})
	close(release)
	for _, done := range []chan error{first, third, finished} {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	close(ended)
	lookers.Wait()
	entry := <-seen
	var found verdict.Record
	if err := json.Unmarshal(entry.Record, &found); err != nil {
		t.Fatal(err)
	}
	if found.Evaluation != verdict.Undefined || found.Reason.Code != verdict.ReasonDeadline || found.Sequence != 1 {
		t.Errorf("never a late OK: found %s, %+v", found.Evaluation, found.Reason)
	}
	counters, err := l.Counters(source)
	if err != nil || counters.Evaluations[verdict.OK] != 0 || counters.Evaluations[verdict.Undefined] != 1 || counters.Reasons[verdict.ReasonDeadline] != 1 {
		t.Errorf("the counters follow: found %+v, %v", counters, err)
	}
}

// Stations write at the same time; each one's sequence has no gaps.
func TestConcurrent(t *testing.T) {
	l := newLedger(t)
	var group sync.WaitGroup
	for station := range 8 {
		group.Go(func() {
			from := fmt.Sprintf("/p/l/st-%02d", station)
			for range 50 {
				record := draft("")
				if _, _, err := l.Begin(from, record); err != nil {
					t.Error(err)
				}
				record.Evaluation = verdict.OK
				if err := l.Finish(from, record, time.Time{}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	for station := range 8 {
		from := fmt.Sprintf("/p/l/st-%02d", station)
		var count, last int64
		if err := l.reads.QueryRow(`SELECT count(*), max(sequence) FROM results WHERE source = ?`, from).Scan(&count, &last); err != nil || count != 50 || last != 50 {
			t.Errorf("%s: want 50 records up to sequence 50, found %d up to %d, %v", from, count, last, err)
		}
	}
	waiting, err := l.Waiting("")
	if err != nil || waiting.Count != 400 || waiting.Oldest.IsZero() {
		t.Errorf("found %+v, %v", waiting, err)
	}
	if sources, err := l.Sources(); err != nil || len(sources) != 8 {
		t.Errorf("found %v, %v", sources, err)
	}
}

// One bad operation does not undo those that share its commit.
func TestOneBadOperation(t *testing.T) {
	l := newLedger(t)
	hold, inside := make(chan struct{}), make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		if err := l.commit(func(transaction) error { close(inside); <-hold; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-inside
	wrong := errors.New("wrong")
	errs := make([]error, 3)
	for i := range errs {
		group.Go(func() {
			errs[i] = l.commit(func(tx transaction) error {
				if err := tx.count(source, "trigger", fmt.Sprint(i), 1); err != nil || i != 1 {
					return err
				}
				return wrong
			})
		})
	}
	for len(l.pending) < 3 {
		time.Sleep(time.Millisecond)
	}
	close(hold)
	group.Wait()
	if errs[0] != nil || errs[2] != nil || !errors.Is(errs[1], wrong) {
		t.Errorf("found %v", errs)
	}
	var count int
	if err := l.reads.QueryRow(`SELECT count(*) FROM counters`).Scan(&count); err != nil || count != 2 {
		t.Errorf("want the two good ones, found %d, %v", count, err)
	}
}

func TestNewerAndForeignFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "newer.db")
	l := openTest(t, path)
	if err := l.commit(func(transaction) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	database, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := database.Exec(`PRAGMA user_version = 99`); err != nil {
		t.Fatal(err)
	}
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "foreign.db")
	if err := os.WriteFile(foreign, []byte(strings.Repeat("this is no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		path:    "ledger " + path + ": written by a newer gladd (user_version 99, this one knows up to 2); install that version again, or give this one a ledger of its own",
		foreign: "ledger " + foreign + ": file is not a database",
	} {
		if _, err := Open(t.Context(), Options{Path: path}); err == nil || err.Error() != want {
			t.Errorf("want  %s\nfound %v", want, err)
		}
	}
	content, err := os.ReadFile(foreign)
	if err != nil || !strings.HasPrefix(string(content), "this is no database") {
		t.Errorf("a foreign file is left as it was: %v", err)
	}
}

func TestOneDaemonForOneLedger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openTest(t, path)
	want := "ledger " + path + ": another gladd uses it; end that one, or give this one a ledger of its own"
	if _, err := Open(t.Context(), Options{Path: path}); err == nil || err.Error() != want {
		t.Errorf("want  %s\nfound %v", want, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Begin(source, draft("")); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: found %v", err)
	}
	openTest(t, path)
}

// tmpfs mounts a file system of a size; tests run as root.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount a file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	dir := tmpfs(t, "2m")
	l := openTest(t, filepath.Join(dir, "ledger.db"))
	kept := begin(t, l, "")
	filler := filepath.Join(dir, "filler")
	file, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil { // until there is not a byte left
		_, err = file.Write(make([]byte, 4096))
	}
	file.Close()

	var full error
	for range 1000 { // what was reserved before is used up first
		if _, _, full = l.Begin(source, draft("")); full != nil {
			break
		}
	}
	if full == nil || !strings.Contains(full.Error(), "database or disk is full") {
		t.Fatalf("want a full disk, found %v", full)
	}
	if _, err := l.Refuse(source, verdict.Reply{Reason: &verdict.Refusal{Code: verdict.RefusedLedger}}); err == nil {
		t.Error("a refusal cannot be written either")
	}
	counters, err := l.Counters(source)
	if err != nil || counters.Refusals[verdict.RefusedLedger] != 1 {
		t.Errorf("it is counted all the same: found %+v, %v", counters, err)
	}
	if err := l.Finish(source, kept, time.Time{}, nil); err == nil {
		t.Fatal("nothing can be recorded now")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := l.Finish(source, kept, time.Time{}, nil); err != nil || kept.Sequence != 1 {
		t.Errorf("with room again it goes on: sequence %d, %v", kept.Sequence, err)
	}
	if _, err := l.Refuse(source, verdict.Reply{Reason: &verdict.Refusal{Code: verdict.RefusedBusy}}); err != nil {
		t.Fatal(err)
	}
	var written int
	if err := l.reads.QueryRow(`SELECT count FROM counters WHERE kind = 'refusal' AND name = 'ledger'`).Scan(&written); err != nil || written != 1 {
		t.Errorf("what was counted meanwhile is written: found %d, %v", written, err)
	}
}

func TestReadOnlyDisk(t *testing.T) {
	dir := tmpfs(t, "2m")
	path := filepath.Join(dir, "ledger.db")
	l := openTest(t, path)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=2m"); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Options{Path: path})
	if err == nil || !strings.Contains(err.Error(), "read-only file system") {
		t.Errorf("want a read-only file system, found %v", err)
	}
}

func TestImages(t *testing.T) {
	l := newLedger(t)
	dir := t.TempDir()
	images := NewImages(l, dir, 250)
	var paths []string
	for i, evaluation := range []verdict.Evaluation{verdict.NotOK, verdict.OK, verdict.OK, verdict.NotOK} {
		record := begin(t, l, "")
		stored, err := images.Store("st-01", record.TriggerID, time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC), make([]byte, 100))
		if err != nil {
			t.Fatal(err)
		}
		record.Evaluation = evaluation
		record.Times.Finished = verdict.Time{Time: time.UnixMilli(int64(i + 1))}
		if err := l.Finish(source, record, time.Time{}, stored); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, filepath.Join(dir, stored.path))
	}
	if err := images.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	there := func() (found string) {
		for _, path := range paths {
			if _, err := os.Stat(path); err == nil {
				found += "x"
			} else {
				found += "-"
			}
		}
		return found
	}
	if found := there(); found != "x--x" {
		t.Errorf("OK pictures go first: want x--x, found %s", found)
	}
	if _, err := os.Stat(filepath.Dir(paths[1])); !os.IsNotExist(err) {
		t.Errorf("a day's folder goes with its last picture: %v", err)
	}
	images.maxBytes = 100
	if err := images.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found := there(); found != "---x" {
		t.Errorf("then the oldest: want ---x, found %s", found)
	}
}

func TestPruneRecords(t *testing.T) {
	l := newLedger(t)
	images := NewImages(l, t.TempDir(), 1<<30)
	const many = 250
	for i := range many {
		record := begin(t, l, fmt.Sprint("c-", i))
		finish(t, l, record, verdict.OK)
		if i == 0 {
			continue // the MES does not have the first one
		}
		if err := l.Delivered(&Entry{Source: source, Sequence: record.Sequence}); err != nil {
			t.Fatal(err)
		}
	}
	unfinished := begin(t, l, "c-last")
	if err := images.PruneRecords(t.Context(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	count := func(table string) (count int) {
		if err := l.reads.QueryRow(`SELECT count(*) FROM ` + table).Scan(&count); err != nil {
			t.Fatal(err)
		}
		return count
	}
	if count("results") != many || count("commands") != many+1 {
		t.Errorf("what is young stays: found %d results", count("results"))
	}
	if err := images.PruneRecords(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if found := []int{count("results"), count("triggers"), count("commands"), count("outbox")}; fmt.Sprint(found) != "[1 2 0 1]" {
		t.Errorf("want what the MES does not have and what has no record, found %v", found)
	}
	finish(t, l, unfinished, verdict.OK)
	if unfinished.Sequence != many+1 {
		t.Errorf("the sequence goes on: want %d, found %d", many+1, unfinished.Sequence)
	}
}

func TestSessions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	for want := range int64(3) {
		l := openTest(t, path)
		if session, err := l.NextSession(); err != nil || session != want+1 {
			t.Errorf("want session %d, found %d, %v", want+1, session, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What was counted in memory only is not forgotten at the end, and never counted
// down.
func TestRefusalsOnlyGrow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openTest(t, path)
	last := int64(0)
	for range 2000 {
		l.CountRefusal(source, verdict.RefusedBusy)
		if last%100 == 0 {
			go l.flushRefusals()
		}
		counters, err := l.Counters(source)
		if err != nil {
			t.Fatal(err)
		}
		if now := counters.Refusals[verdict.RefusedBusy]; now != last+1 {
			t.Fatalf("want %d, found %d", last+1, now)
		}
		last++
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	counters, err := openTest(t, path).Counters(source)
	if err != nil || counters.Refusals[verdict.RefusedBusy] != last {
		t.Errorf("want %d, found %v, %v", last, counters.Refusals, err)
	}
}
