package ledger

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gladd/daemon/internal/verdict"
)

// openRaw opens a ledger's file beside gladd, as one would who tampers with it.
func openRaw(t testing.TB, path string) *sql.DB {
	t.Helper()
	database, err := sql.Open("sqlite3", "file:"+path+"?_busy_timeout=5000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { database.Close() }) //nolint:errcheck // the test is over
	return database
}

// runSQL runs statements on a ledger's file.
func runSQL(t testing.TB, path string, statements ...string) {
	t.Helper()
	database := openRaw(t, path)
	for _, statement := range statements {
		if _, err := database.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
}

// digestAll gives the records of a ledger their digests, as one would who hides
// that they were changed.
func digestAll(t testing.TB, path string) {
	t.Helper()
	database := openRaw(t, path)
	rows, err := database.Query(`SELECT result_id, CAST(record AS BLOB) FROM results`)
	if err != nil {
		t.Fatal(err)
	}
	digests := map[string]string{}
	for rows.Next() {
		var resultID string
		var record []byte
		if err := rows.Scan(&resultID, &record); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(record)
		digests[resultID] = hex.EncodeToString(sum[:])
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	rows.Close()
	for resultID, digest := range digests {
		if _, err := database.Exec(`UPDATE results SET digest = ? WHERE result_id = ?`, digest, resultID); err != nil {
			t.Fatal(err)
		}
	}
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
}

// record makes a result of a source, as a station would.
func record(t testing.TB, l *Ledger, source string, change func(*verdict.Record)) *verdict.Record {
	t.Helper()
	made := draft("")
	made.Evaluation, made.ResultState = verdict.OK, verdict.Completed
	if change != nil {
		change(made)
	}
	if made.Times.Finished.IsZero() {
		made.Times.Finished = made.Times.Triggered
	}
	if _, _, err := l.Begin(source, made); err != nil {
		t.Fatal(err)
	}
	if err := l.Finish(source, made, time.Time{}, nil); err != nil {
		t.Fatal(err)
	}
	return made
}

func openTestReader(t testing.TB, path string) *Reader {
	t.Helper()
	r, err := OpenReader(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// found lists what a query finds: station and sequence.
func found(t testing.TB, r *Reader, query Query) string {
	t.Helper()
	var all []string
	if err := r.Each(t.Context(), query, func(stored *Stored) error {
		all = append(all, fmt.Sprintf("%s/%d", lastName(stored.Source), stored.Sequence))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func lastName(source string) string { return source[strings.LastIndexByte(source, '/')+1:] }

func pointer(text string) *string { return &text }

// A wall clock that is set back and forth does not change the order.
func TestOrderUnderClockJumps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openTest(t, path)
	begun := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	var want []string
	for i, jump := range []time.Duration{0, time.Hour, -50 * 365 * 24 * time.Hour, time.Minute, -time.Hour, 10 * 365 * 24 * time.Hour, time.Second} {
		source := []string{"/p/l/st-01", "/p/l/st-02"}[i%2]
		made := record(t, l, source, func(made *verdict.Record) { made.Times.Triggered = verdict.Time{Time: begun.Add(jump)} })
		want = append(want, fmt.Sprintf("%s/%d", lastName(source), made.Sequence))
	}
	r := openTestReader(t, path)
	if all := found(t, r, Query{}); all != strings.Join(want, " ") {
		t.Errorf("want  %v\nfound %s", want, all)
	}
	if last := found(t, r, Query{Last: 3}); last != strings.Join(want[4:], " ") {
		t.Errorf("the last three: want %v, found %s", want[4:], last)
	}
	results, err := r.Results(t.Context(), Query{Station: "st-01"})
	if err != nil {
		t.Fatal(err)
	}
	for i, result := range results {
		if result.Record.Sequence != int64(i+1) {
			t.Errorf("result %d of st-01 has sequence %d", i, result.Record.Sequence)
		}
	}
	// Times select by what each result says.
	if since := found(t, r, Query{Since: begun.Add(time.Second), Until: begun.Add(2 * time.Hour)}); since != "st-02/1 st-02/2 st-01/4" {
		t.Errorf("found %s", since)
	}
	if problems, _ := verify(t, r, VerifyOptions{}); problems != nil {
		t.Errorf("nothing is wrong with it: %v", problems)
	}

	// A copy that was made anew has the same order.
	copied := filepath.Join(t.TempDir(), "copy.db")
	runSQL(t, path, "DELETE FROM results WHERE source = '/p/l/st-02' AND sequence = 1", "VACUUM INTO '"+copied+"'")
	if all := found(t, openTestReader(t, copied), Query{}); all != strings.Join(slices.Delete(want, 1, 2), " ") {
		t.Errorf("want  %v\nfound %s", want, all)
	}
}

func TestQueries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openTest(t, path)
	st01, st02, housing := "/p/l/st-01", "/p/l/st-02", "/p/l/housing"
	first := record(t, l, st01, func(made *verdict.Record) { made.Part.ID = pointer("P-1") })
	record(t, l, st02, func(made *verdict.Record) {
		made.Part.ID, made.Evaluation, made.Reason = pointer("P-2"), verdict.NotOK, &verdict.Reason{Code: verdict.ReasonAnomaly}
	})
	record(t, l, st01, func(made *verdict.Record) { made.Part.ID, made.Purpose = pointer("P-1"), verdict.Challenge })
	record(t, l, housing, nil)
	record(t, l, "/p/l/not-st-01", nil)
	unfinished := begin(t, l, "c-9")
	runSQL(t, path,
		`DELETE FROM outbox WHERE source = '/p/l/housing'`,
		`UPDATE outbox SET parked = 'unacknowledged', published = 1, tries = 3 WHERE source = '/p/l/st-02'`,
		`UPDATE outbox SET parked = 'rejected', reason = 'no such order' WHERE source = '/p/l/st-01' AND sequence = 2`)
	r := openTestReader(t, path)
	for _, test := range []struct {
		name  string
		query Query
		want  string
	}{
		{"all", Query{}, "st-01/1 st-02/1 st-01/2 housing/1 not-st-01/1"},
		{"a station", Query{Station: "st-01"}, "st-01/1 st-01/2"},
		{"a part's name", Query{Station: "housing"}, "housing/1"},
		{"no such station", Query{Station: "01"}, ""},
		{"an evaluation", Query{Evaluation: verdict.NotOK}, "st-02/1"},
		{"a part", Query{Part: "P-1"}, "st-01/1 st-01/2"},
		{"a purpose", Query{Purpose: verdict.Challenge}, "st-01/2"},
		{"waiting", Query{Waiting: true}, "st-01/1 st-02/1 not-st-01/1"},
		{"parked", Query{Parked: true}, "st-02/1 st-01/2"},
		{"unacknowledged", Query{Parked: true, Waiting: true}, "st-02/1"},
		{"by id", Query{ResultIDs: []string{"x", first.ResultID}}, "st-01/1"},
		{"the last", Query{Last: 1, Station: "st-01"}, "st-01/2"},
		{"more than there are", Query{Last: 100, Part: "P-1"}, "st-01/1 st-01/2"},
	} {
		if all := found(t, r, test.query); all != test.want {
			t.Errorf("%s: want %q, found %q", test.name, test.want, all)
		}
	}

	var deliveries []string
	if err := r.Each(t.Context(), Query{}, func(stored *Stored) error {
		line, err := verdict.JSON(stored.Delivery)
		if stored.Delivery.Entered != nil {
			line = []byte(strings.Replace(string(line), stored.Delivery.Entered.String(), "then", 1))
		}
		deliveries = append(deliveries, string(line))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"state":"waiting","entered":"then","published":null,"tries":0,"reason":null}`,
		`{"state":"unacknowledged","entered":"then","published":"1970-01-01T00:00:00.001Z","tries":3,"reason":null}`,
		`{"state":"rejected","entered":"then","published":null,"tries":0,"reason":"no such order"}`,
		`{"state":"sent","entered":null,"published":null,"tries":0,"reason":null}`,
		`{"state":"waiting","entered":"then","published":null,"tries":0,"reason":null}`,
	}
	if !slices.Equal(deliveries, want) {
		t.Errorf("want  %s\nfound %s", strings.Join(want, "\n      "), strings.Join(deliveries, "\n      "))
	}

	var triggers []string
	if err := r.EachUnfinished(t.Context(), Query{Station: "st-01", Since: time.Now().Add(-time.Hour), Last: 5}, func(trigger *Unfinished) error {
		draft, err := trigger.Draft()
		triggers = append(triggers, trigger.TriggerID, *draft.CommandID)
		return err
	}); err != nil || !slices.Equal(triggers, []string{unfinished.TriggerID, "c-9"}) {
		t.Errorf("found %v, %v", triggers, err)
	}
	for _, query := range []Query{{Station: "st-02"}, {Until: time.Now().Add(-time.Hour)}, {Part: "P-1"}} {
		if err := r.EachUnfinished(t.Context(), query, func(*Unfinished) error { return fmt.Errorf("found one") }); err != nil {
			t.Errorf("%+v: %v", query, err)
		}
	}
}

// What an earlier version wrote is read as it is.
func TestReadsVersion1(t *testing.T) {
	dir := t.TempDir()
	path, old := filepath.Join(dir, "ledger.db"), filepath.Join(dir, "old.db")
	l := openTest(t, path)
	record(t, l, source, func(made *verdict.Record) { made.Part.ID = pointer("P-1"); made.CommandID = pointer("c-1") })
	record(t, l, source, func(made *verdict.Record) { made.Part.ID = pointer("P-2") })
	begin(t, l, "")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	runSQL(t, old, migrations[0]+`PRAGMA user_version = 1; ATTACH '`+path+`' AS newer;
		INSERT INTO meta SELECT * FROM newer.meta;
		INSERT INTO triggers SELECT trigger_id, source, accepted, finished, draft FROM newer.triggers;
		INSERT INTO commands SELECT source, command_id, replied, reply FROM newer.commands;
		INSERT INTO results SELECT result_id, trigger_id, source, sequence, evaluation, finished, record FROM newer.results;
		INSERT INTO sequences SELECT * FROM newer.sequences;
		INSERT INTO outbox SELECT source, sequence, result_id, entered FROM newer.outbox;
		INSERT INTO counters SELECT * FROM newer.counters;`)
	r := openTestReader(t, old)
	for _, test := range []struct {
		query Query
		want  string
	}{
		{Query{}, "st-01/1 st-01/2"},
		{Query{Part: "P-2", Purpose: verdict.Production, Station: "st-01", Evaluation: verdict.OK, Waiting: true}, "st-01/2"},
		{Query{Parked: true}, ""},
	} {
		if all := found(t, r, test.query); all != test.want {
			t.Errorf("%+v: want %q, found %q", test.query, test.want, all)
		}
	}
	stories := 0
	count, err := r.Stories(t.Context(), "P-1", func(story *Story) error {
		stories++
		if story.Result.Sequence != 1 || story.Result.Delivery.State != Pending || story.Reply == nil || story.Views != nil || story.Part != nil {
			t.Errorf("found %+v", story)
		}
		return nil
	})
	if err != nil || count != 1 || stories != 1 {
		t.Errorf("found %d, %v", count, err)
	}
	problems, verified := verify(t, r, VerifyOptions{Stopped: true})
	if len(problems) != 1 || !strings.Contains(problems[0], "no daemon is at work") || verified.Undigested != 2 || verified.Version != 1 {
		t.Errorf("found %v, %+v", problems, verified)
	}
	var version int
	if err := openRaw(t, old).QueryRow(`PRAGMA user_version`).Scan(&version); err != nil || version != 1 {
		t.Errorf("nothing was migrated: found version %d, %v", version, err)
	}
}

// Results are read while others are written, in pages.
func TestReadWhileWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openTest(t, path)
	const many = 2*page + 10
	var made []*verdict.Record
	for range many {
		made = append(made, record(t, l, source, nil))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := openTestReader(t, path)
	next := 0
	if err := r.Each(ctx, Query{}, func(stored *Stored) error {
		if stored.ResultID != made[next].ResultID {
			t.Fatalf("result %d: found %s", next, stored.ResultID)
		}
		if next++; next == 1 { // while the others are still to be read
			record(t, l, source, nil)
			runSQL(t, path, fmt.Sprintf(`DELETE FROM results WHERE sequence = %d`, many))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if next != many-1 {
		t.Errorf("want what was there at the beginning and was not removed, %d results, found %d", many-1, next)
	}
	stop := fmt.Errorf("enough")
	if err := r.Each(ctx, Query{}, func(*Stored) error { return stop }); err != stop { //nolint:errorlint // it must be the very one
		t.Errorf("found %v", err)
	}
	cancel()
	if err := r.Each(ctx, Query{}, func(*Stored) error { return nil }); err == nil {
		t.Error("want an end")
	}
}

// Who reads as root leaves nothing behind that would keep the daemon's user
// out.
func TestReaderLeavesTheOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to give a file to another user")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	l := openTest(t, path)
	record(t, l, source, nil)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	const owner = 65534
	if err := os.Chown(path, owner, owner); err != nil {
		t.Fatal(err)
	}
	r := openTestReader(t, path)
	if all := found(t, r, Query{}); all != "st-01/1" {
		t.Errorf("found %s", all)
	}
	for _, name := range []string{path, path + "-shm", path + "-wal"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != owner {
			t.Errorf("%s belongs to user %d now", name, uid)
		}
	}
}

// The reader of a folder that is not one's own is told what to do.
func TestReaderOfAnothersFolder(t *testing.T) {
	dir := tmpfs(t, "2m")
	path := filepath.Join(dir, "ledger.db")
	l := openTest(t, path)
	record(t, l, source, nil)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=2m"); err != nil {
		t.Fatal(err)
	}
	_, err := OpenReader(t.Context(), path)
	want := "; SQLite keeps files beside a ledger that it reads: do it as the user of the daemon, or read a copy in a folder of yours"
	if err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("want  …%s\nfound %v", want, err)
	}
}

func TestReaderRefuses(t *testing.T) {
	dir := t.TempDir()
	newer, foreign := filepath.Join(dir, "newer.db"), filepath.Join(dir, "foreign.db")
	runSQL(t, newer, `CREATE TABLE meta (a); PRAGMA user_version = 99`)
	runSQL(t, foreign, `CREATE TABLE a (a)`)
	for path, want := range map[string]string{
		newer:   "ledger " + newer + ": expected user_version 1 to 2, found 99; it belongs to a newer gladd",
		foreign: "ledger " + foreign + ": it holds no tables of gladd: it is no ledger, one that no daemon finished making, or a copy without its -wal file",
		dir:     "ledger " + dir + ": expected a file",
	} {
		if _, err := OpenReader(t.Context(), path); err == nil || err.Error() != want {
			t.Errorf("want  %s\nfound %v", want, err)
		}
	}
}
