package ledger

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"gladd/daemon/internal/verdict"
)

// A ledger of version 1 keeps its records, counters, outbox and replies, and
// attempts at its parts go on.
func TestMigrateFromVersion1(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	database, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	do := func(statement string, arguments ...any) {
		t.Helper()
		if _, err := database.Exec(statement, arguments...); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	do(migrations[0] + `PRAGMA user_version = 1;`)
	do(`INSERT INTO meta VALUES ('ledger_id', 'L1'), ('session', '41')`)
	now := time.Now().UnixMilli()
	// Version 1 wrote attempt 1 into every record.
	recordOf := func(id string, change ...func(*verdict.Record)) string {
		record := ofPart("P-1", change...)
		record.TriggerID, record.ResultID, record.LedgerID, record.Evaluation, record.ResultState = id, "r-"+id, "L1", verdict.NotOK, verdict.Completed
		encoded, err := verdict.JSON(record)
		if err != nil {
			t.Fatal(err)
		}
		return string(encoded)
	}
	records := map[string]string{}
	for i, each := range []struct {
		id     string
		change func(*verdict.Record)
	}{
		{"t1", func(*verdict.Record) {}},
		{"t2", purpose(verdict.Reinspection)},
		{"t3", purpose(verdict.Challenge)},
		{"t4", func(r *verdict.Record) { r.Part = verdict.Part{} }},
		{"t5", func(r *verdict.Record) { r.MeasurementID, r.View = text("m"), text("top") }},
	} {
		records[each.id] = recordOf(each.id, each.change)
		do(`INSERT INTO triggers VALUES (?, ?, ?, 1, '')`, each.id, source, now)
		do(`INSERT INTO results VALUES (?, ?, ?, ?, 'NotOK', ?, ?)`, "r-"+each.id, each.id, source, i+1, now, records[each.id])
	}
	do(`INSERT INTO triggers VALUES ('t6', ?, ?, 0, ?)`, source, now, recordOf("t6"))
	do(`INSERT INTO triggers VALUES ('gone', ?, ?, 1, '')`, source, now) // whose record was removed by age
	do(`INSERT INTO sequences VALUES (?, 5)`, source)
	do(`INSERT INTO outbox VALUES (?, 5, 'r-t5', ?)`, source, now)
	do(`INSERT INTO commands VALUES (?, 'c-1', ?, '{"command_id":"c-1","trigger_id":"t1","accepted":true,"reason":null}')`, source, now)
	do(`INSERT INTO counters VALUES (?1, 'trigger', 'accepted', 6), (?1, 'evaluation', 'NotOK', 5), (?1, 'reason', 'anomaly', 5), (?1, 'refusal', 'busy', 2)`, source)
	do(`INSERT INTO images VALUES ('t1', 'st-01/t1.png', 100, 0, ?)`, now)
	do(`INSERT INTO reviews VALUES ('v1', 'r-t1', ?, '{}')`, now)
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}

	l := openTest(t, path)
	var version int
	if err := l.reads.QueryRow(`PRAGMA user_version`).Scan(&version); err != nil || version != len(migrations) {
		t.Errorf("found user_version %d, %v", version, err)
	}
	if l.ID() != "L1" {
		t.Errorf("found id %s", l.ID())
	}
	for id, want := range records {
		if found, err := l.Record(id); err != nil || string(found) != want {
			t.Errorf("want  %s\nfound %s, %v", want, found, err)
		}
	}
	if entry, err := l.Next(source, 0); err != nil || entry == nil || entry.ResultID != "r-t5" || string(entry.Record) != records["t5"] {
		t.Errorf("found %+v, %v", entry, err)
	}
	if reply, err := l.Answered(source, verdict.VerbStart, "c-1"); err != nil || reply == nil || *reply.TriggerID != "t1" {
		t.Errorf("found %+v, %v", reply, err)
	}
	counters, err := l.Counters(source)
	if err != nil || counters.Accepted != 6 || counters.Evaluations[verdict.NotOK] != 5 || counters.Reasons[verdict.ReasonAnomaly] != 5 ||
		counters.Refusals[verdict.RefusedBusy] != 2 || len(counters.Purposes) != 3 {
		t.Errorf("found %+v, %v", counters, err)
	}
	var digest string
	var images, reviews int
	if err := l.reads.QueryRow(`SELECT (SELECT group_concat(digest, '') FROM results), (SELECT count(*) FROM images), (SELECT count(*) FROM reviews)`).
		Scan(&digest, &images, &reviews); err != nil || digest != "" || images != 1 || reviews != 1 {
		t.Errorf("found digests %q, %d images, %d reviews, %v", digest, images, reviews, err)
	}

	if recovered, err := l.Recover(time.Now(), NewImages(l, t.TempDir(), 1<<30)); err != nil || recovered != 1 {
		t.Fatalf("found %d, %v", recovered, err)
	}
	unfinished := ended(t, l, "t6")
	if unfinished.Attempt != 3 || unfinished.PreviousResultID == nil || *unfinished.PreviousResultID != "r-t2" || unfinished.Sequence != 6 {
		t.Errorf("found attempt %d after %v, sequence %d", unfinished.Attempt, unfinished.PreviousResultID, unfinished.Sequence)
	}
	for i, test := range []struct {
		record   *verdict.Record
		attempt  int
		previous string
	}{
		{ofPart("P-1"), 4, unfinished.ResultID},
		{ofPart("P-1", purpose(verdict.Challenge)), 2, "r-t3"},
		{ofPart("P-1", measurement("m"), viewed("top")), 2, "r-t5"},
		{ofPart("P-1", viewed("top")), 1, ""},
		{draft(""), 1, ""},
	} {
		finish(t, l, beginWith(t, l, source, test.record, Rules{}), verdict.OK)
		found := ended(t, l, test.record.TriggerID)
		previous := ""
		if found.PreviousResultID != nil {
			previous = *found.PreviousResultID
		}
		if found.Attempt != test.attempt || previous != test.previous || found.Sequence != int64(7+i) {
			t.Errorf("%d: want attempt %d after %q, found %d after %q, sequence %d", i, test.attempt, test.previous, found.Attempt, previous, found.Sequence)
		}
	}
	// t1 and t2 were completed; t6 was not, and the one above was.
	if reply, _, err := l.BeginView(source, ofPart("P-1"), Rules{Attempts: 3}); err != nil || reply.Accepted {
		t.Errorf("found %+v, %v", reply, err)
	}
	if reply, _, err := l.BeginView(source, ofPart("P-1"), Rules{Attempts: 4}); err != nil || !reply.Accepted {
		t.Errorf("found %+v, %v", fmt.Sprint(reply.Reason), err)
	}
}

// A damaged record is no reason not to start.
func TestMigrateDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	database, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		migrations[0] + `PRAGMA user_version = 1;`,
		`INSERT INTO triggers VALUES ('t1', '/p/l/st-01', 1, 1, ''), ('t2', '/p/l/st-01', 2, 1, '')`,
		`INSERT INTO results VALUES ('r1', 't1', '/p/l/st-01', 1, 'NotOK', 1, '{"part":{"id":"P"},'),
			('r2', 't2', '/p/l/st-01', 2, 'NotOK', 2, '{"part":{"id":"P"},"purpose":"setup"}')`,
	} {
		if _, err := database.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	l := openTest(t, path)
	var found string
	if err := l.reads.QueryRow(`SELECT group_concat(purpose || ' ' || coalesce(part_id, '?'), ', ') FROM triggers`).Scan(&found); err != nil || found != "production ?, setup P" {
		t.Errorf("found %s, %v", found, err)
	}
}
