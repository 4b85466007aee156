package ledger

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gladd/daemon/internal/verdict"
)

// verify returns the problems, and what was found.
func verify(t testing.TB, r *Reader, options VerifyOptions) ([]string, *Verified) {
	t.Helper()
	var problems []string
	options.Problem = func(text string) { problems = append(problems, text) }
	if options.Note == nil {
		options.Note = func(text string) { t.Errorf("note: %s", text) }
	}
	steps, total := 0, 0
	options.Begin, options.Step = func(_ string, count int) { total += count }, func() { steps++ }
	found, err := r.Verify(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	if problems == nil && steps != total {
		t.Errorf("%d of %d steps were told", steps, total)
	}
	return problems, found
}

func TestVerify(t *testing.T) {
	for name, damage := range map[string]func(d *damaged) (want []string){
		"nothing": func(*damaged) []string { return nil },
		"a gap": func(d *damaged) []string {
			d.sql(`DELETE FROM results WHERE trigger_id = '%s'; DELETE FROM triggers WHERE trigger_id = '%[1]s'; DELETE FROM outbox;
				DELETE FROM images WHERE trigger_id = '%[1]s'`, d.st01[1].TriggerID)
			if err := os.Remove(filepath.Join(d.dir, d.pictures[1])); err != nil {
				d.t.Fatal(err)
			}
			return []string{"/p/l/st-01: sequence 2 is missing"}
		},
		"the end is missing": func(d *damaged) []string {
			d.sql(`UPDATE sequences SET last = 9 WHERE source = '/p/l/st-01'`)
			return []string{"/p/l/st-01: sequences 4 to 9 are missing"}
		},
		"more than were given": func(d *damaged) []string {
			d.sql(`DELETE FROM sequences WHERE source = '/p/l/st-02'`)
			return []string{"/p/l/st-02: sequence 2 was recorded, but the last one given is 0"}
		},
		"a sequence that was given twice": func(d *damaged) []string {
			d.sql(withoutConstraints+`UPDATE results SET sequence = 1, record = replace(record, '"sequence":2', '"sequence":1') WHERE result_id = '%s'; DELETE FROM outbox`, d.st02[1].ResultID)
			digestAll(d.t, d.path)
			return []string{
				"/p/l/st-02: sequence 1 was given twice",
				"/p/l/st-02: sequence 2 is missing",
			}
		},
		"a lost record": func(d *damaged) []string {
			d.sql(`DELETE FROM results WHERE result_id = '%s'; DELETE FROM outbox`, d.st02[1].ResultID)
			return []string{
				"/p/l/st-02: sequence 2 is missing",
				"trigger " + d.st02[1].TriggerID + " of /p/l/st-02, accepted 2026-11-24T09:00:00.000Z: its record is gone",
			}
		},
		"a lost trigger": func(d *damaged) []string {
			d.sql(`DELETE FROM triggers WHERE trigger_id = '%s'`, d.st02[1].TriggerID)
			return []string{"result " + d.st02[1].ResultID + " (/p/l/st-02, sequence 2): its trigger " + d.st02[1].TriggerID + " is not in the ledger"}
		},
		"a trigger of another": func(d *damaged) []string {
			d.sql(`UPDATE triggers SET source = '/p/l/st-09' WHERE trigger_id = '%s'`, d.st02[1].TriggerID)
			return []string{"result " + d.st02[1].ResultID + " (/p/l/st-02, sequence 2): its trigger " + d.st02[1].TriggerID + " is one of /p/l/st-09"}
		},
		"a trigger without a record": func(d *damaged) []string {
			d.sql(`INSERT INTO triggers (trigger_id, source, accepted, draft) VALUES ('T-1', '/p/l/st-03', 1764000000000, '{}')`)
			return []string{"trigger T-1 of /p/l/st-03, accepted 2025-11-24T16:00:00.000Z: it has no record, and no daemon is at work; the next start records it as Undefined"}
		},
		"a trigger that cannot be recorded": func(d *damaged) []string {
			d.sql(`INSERT INTO triggers (trigger_id, source, accepted, draft) VALUES ('T-1', '/p/l/st-03', 1764000000000, '{')`)
			return []string{"trigger T-1 of /p/l/st-03, accepted 2025-11-24T16:00:00.000Z: what was known at the trigger cannot be read; the next start cannot record it"}
		},
		"a trigger that counts as unfinished": func(d *damaged) []string {
			d.sql(`UPDATE triggers SET finished = 0, draft = '{"purpose":"production"}' WHERE trigger_id = '%s'`, d.st02[1].TriggerID)
			return []string{
				"/p/l/st-02: the counter of trigger accepted is 2, the ledger holds 3",
				"trigger " + d.st02[1].TriggerID + " of /p/l/st-02, accepted 2026-11-24T09:00:00.000Z: it has a result, but counts as unfinished; the next start would make it Undefined",
			}
		},
		"a second result": func(d *damaged) []string {
			d.sql(withoutConstraints+`INSERT INTO results SELECT 'R-2', trigger_id, source, 3, evaluation, finished,
				replace(replace(record, '"sequence":2', '"sequence":3'), result_id, 'R-2'), '' FROM results WHERE result_id = '%s';
				UPDATE sequences SET last = 3 WHERE source = '/p/l/st-02'`, d.st02[1].ResultID)
			digestAll(d.t, d.path)
			return []string{
				"/p/l/st-02: the counter of evaluation OK is 2, the ledger holds 3",
				"/p/l/st-02: the counter of trigger accepted is 2, the ledger holds 3",
				"trigger " + d.st02[1].TriggerID + " of /p/l/st-02, accepted 2026-11-24T09:00:00.000Z: it has 2 results",
			}
		},
		"a changed record": func(d *damaged) []string {
			d.sql(`UPDATE results SET record = replace(record, '"is_simulated":false', '"is_simulated":true') WHERE result_id = '%s'`, d.st02[1].ResultID)
			changed, digest := d.stored(d.st02[1])
			return []string{fmt.Sprintf("result %s (/p/l/st-02, sequence 2): the record was changed: expected SHA-256 %s, found %x",
				d.st02[1].ResultID, digest, sha256.Sum256(changed))}
		},
		"a wrong digest": func(d *damaged) []string {
			d.sql(`UPDATE results SET digest = 'abc' WHERE result_id = '%s'`, d.st02[1].ResultID)
			record, _ := d.stored(d.st02[1])
			return []string{fmt.Sprintf("result %s (/p/l/st-02, sequence 2): the record was changed: expected SHA-256 abc, found %x",
				d.st02[1].ResultID, sha256.Sum256(record))}
		},
		"a record that is none": func(d *damaged) []string {
			d.sql(`UPDATE results SET record = '{' WHERE result_id = '%s'`, d.st02[1].ResultID)
			digestAll(d.t, d.path)
			return []string{"result " + d.st02[1].ResultID + " (/p/l/st-02, sequence 2): the record cannot be read: unexpected end of JSON input"}
		},
		"an evaluation that was turned": func(d *damaged) []string {
			d.sql(`UPDATE results SET evaluation = 'OK' WHERE result_id = '%s'`, d.st01[1].ResultID)
			return []string{"result " + d.st01[1].ResultID + " (/p/l/st-01, sequence 2): evaluation: the ledger has OK, the record NotOK"}
		},
		"a record that was turned": func(d *damaged) []string {
			d.edit(d.st01[1], `"evaluation":"NotOK"`, `"evaluation":"OK"`)
			return []string{
				"result " + d.st01[1].ResultID + " (/p/l/st-01, sequence 2): evaluation: the ledger has NotOK, the record OK",
				"result " + d.st01[1].ResultID + " (/p/l/st-01, sequence 2): OK with the reason anomaly",
				"/p/l/st-01: the counter of evaluation NotOK is 1, the ledger holds 0",
				"/p/l/st-01: the counter of evaluation OK is 2, the ledger holds 3",
			}
		},
		"columns that do not agree": func(d *damaged) []string {
			d.sql(`UPDATE results SET finished = finished + 5 WHERE result_id = '%s'`, d.st02[0].ResultID)
			d.edit(d.st02[1], `"sequence":2`, `"sequence":7`)
			d.edit(d.st02[1], d.st02[1].TriggerID, "T-2")
			d.edit(d.st02[1], d.st02[1].LedgerID, "L-2")
			name := "result " + d.st02[1].ResultID + " (/p/l/st-02, sequence 2): "
			return []string{
				"result " + d.st02[0].ResultID + " (/p/l/st-02, sequence 1): finished: the ledger has 1795510800005, the record 1795510800000",
				name + "trigger_id: the ledger has " + d.st02[1].TriggerID + ", the record T-2",
				name + "ledger_id: the ledger has " + d.st02[1].LedgerID + ", the record L-2",
				name + "sequence: the ledger has 2, the record 7",
			}
		},
		"no id": func(d *damaged) []string {
			d.sql(`DELETE FROM meta; DELETE FROM results WHERE source <> '/p/l/housing'; DELETE FROM triggers WHERE source <> '/p/l/housing';
				DELETE FROM outbox WHERE source <> '/p/l/housing'; DELETE FROM images; DELETE FROM sequences`)
			if err := os.RemoveAll(d.dir); err != nil {
				d.t.Fatal(err)
			}
			name := "result " + d.part.ResultID + " (/p/l/housing, sequence 1): "
			return []string{
				"the ledger has no id",
				name + "ledger_id: the ledger has , the record " + d.part.LedgerID,
				name + "its view's result " + d.part.SourceResultIDs[0] + " is not in the ledger",
				"/p/l/housing: sequence 1 was recorded, but the last one given is 0",
			}
		},
		"a dangling outbox": func(d *damaged) []string {
			d.sql(`INSERT INTO outbox (source, sequence, result_id, entered) VALUES ('/p/l/st-03', 8, 'R-9', 0);
				UPDATE outbox SET result_id = '%s' WHERE source = '/p/l/st-02' AND sequence = 1`, d.st02[1].ResultID)
			return []string{
				"outbox: result " + d.st02[1].ResultID + " (/p/l/st-02, sequence 1) is /p/l/st-02, sequence 2",
				"outbox: result R-9 (/p/l/st-03, sequence 8) is not in the ledger",
			}
		},
		"a dangling review": func(d *damaged) []string {
			d.sql(`INSERT INTO reviews VALUES ('V-1', 'R-9', 0, '{}')`)
			return []string{"review V-1: its result R-9 is not in the ledger"}
		},
		"a part that is not its views": func(d *damaged) []string {
			d.edit(d.part, d.part.SourceResultIDs[0], d.st01[1].ResultID)
			return []string{"result " + d.part.ResultID + " (/p/l/housing, sequence 1): its views make it NotOK, the record says OK"}
		},
		"a part without a view": func(d *damaged) []string {
			d.edit(d.part, `"views_expected":2`, `"views_expected":3`)
			return []string{"result " + d.part.ResultID + " (/p/l/housing, sequence 1): its views make it Undefined, the record says OK"}
		},
		"a part of what is not there": func(d *damaged) []string {
			d.edit(d.part, d.part.SourceResultIDs[1], "R-9")
			return []string{"result " + d.part.ResultID + " (/p/l/housing, sequence 1): its view's result R-9 is not in the ledger"}
		},
		"counters": func(d *damaged) []string {
			d.sql(`UPDATE counters SET count = 7 WHERE source = '/p/l/st-01' AND kind = 'reason'; DELETE FROM counters WHERE source = '/p/l/st-02' AND kind = 'trigger';
				INSERT INTO counters VALUES ('/p/l/st-02', 'evaluation', 'NotDecidable', 1)`)
			return []string{
				"/p/l/st-01: the counter of reason anomaly is 7, the ledger holds 1",
				"/p/l/st-02: the counter of evaluation NotDecidable is 1, the ledger holds 0",
				"/p/l/st-02: the counter of trigger accepted is 0, the ledger holds 2",
			}
		},
		"a missing picture": func(d *damaged) []string {
			if err := os.Remove(filepath.Join(d.dir, d.pictures[0])); err != nil {
				d.t.Fatal(err)
			}
			return []string{"picture " + d.pictures[0] + " of result " + d.st01[0].ResultID + " (/p/l/st-01, sequence 1): the file is gone"}
		},
		"a changed picture": func(d *damaged) []string {
			content, digest := onePixel(d.t, 99)
			d.picture(1, content)
			return []string{"picture " + d.pictures[1] + " of result " + d.st01[1].ResultID + " (/p/l/st-01, sequence 2): it is not the one that was inspected: expected SHA-256 " +
				d.st01[1].Image.SHA256 + " of the decoded pixels, found " + digest}
		},
		"a damaged picture": func(d *damaged) []string {
			d.picture(1, []byte("no picture"))
			return []string{"picture " + d.pictures[1] + " of result " + d.st01[1].ResultID + " (/p/l/st-01, sequence 2): it cannot be read: png: invalid format: not a PNG file"}
		},
		"pictures and records that do not agree": func(d *damaged) []string {
			d.sql(`UPDATE images SET bytes = 5 WHERE trigger_id = '%s'`, d.st01[0].TriggerID)
			d.sql(`UPDATE images SET path = '../../etc/passwd' WHERE trigger_id = '%s'`, d.st01[1].TriggerID)
			if err := os.Remove(filepath.Join(d.dir, d.pictures[1])); err != nil {
				d.t.Fatal(err)
			}
			d.sql(`UPDATE results SET record = json_set(record, '$.image', NULL) WHERE result_id = '%s'`, d.st01[2].ResultID)
			digestAll(d.t, d.path)
			first, _ := onePixel(d.t, 0)
			return []string{
				fmt.Sprintf("picture %s of result %s (/p/l/st-01, sequence 1): expected a file of 5 bytes, found %d", d.pictures[0], d.st01[0].ResultID, len(first)),
				"picture ../../etc/passwd of result " + d.st01[1].ResultID + " (/p/l/st-01, sequence 2): its path leads out of the folder of pictures",
				"picture " + d.pictures[2] + " of result " + d.st01[2].ResultID + " (/p/l/st-01, sequence 3): the record has no picture",
			}
		},
		"a picture without a result": func(d *damaged) []string {
			d.sql(`UPDATE images SET trigger_id = 'T-9' WHERE trigger_id = '%s'`, d.st01[0].TriggerID)
			d.sql(`UPDATE images SET path = '%s/T-9.png' WHERE trigger_id = 'T-9'`, filepath.Dir(d.pictures[0]))
			if err := os.Rename(filepath.Join(d.dir, d.pictures[0]), filepath.Join(d.dir, filepath.Dir(d.pictures[0]), "T-9.png")); err != nil {
				d.t.Fatal(err)
			}
			return []string{"picture " + filepath.Dir(d.pictures[0]) + "/T-9.png of trigger T-9: it has no result"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDamaged(t)
			want := damage(d)
			problems, _ := d.verify(VerifyOptions{})
			if !slices.Equal(problems, want) {
				t.Errorf("want\n  %s\nfound\n  %s", strings.Join(want, "\n  "), strings.Join(problems, "\n  "))
			}
		})
	}
}

// A trigger without a record is no problem while a daemon is at work on it.
func TestVerifyUnderWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openTest(t, path)
	record(t, l, source, nil)
	oldest := begin(t, l, "")
	begin(t, l, "")
	// A part whose other view is still to come outlives the daemon.
	finishView(t, l, beginView(t, l, "P-1", front), verdict.OK)
	r := openTestReader(t, path)
	problems, found := verify(t, r, VerifyOptions{})
	if problems != nil || !found.InUse || found.UnderWay != 2 || found.OpenParts != 1 || found.OldestUnderWay.String() != oldest.Times.Triggered.String() {
		t.Errorf("found %v, %+v", problems, found)
	}
	two := func(problems []string) bool {
		return len(problems) == 2 && strings.Contains(problems[0], oldest.TriggerID+" of /p/l/st-01, ") && strings.Contains(problems[1], ": it has no record, and no daemon is at work")
	}
	if problems, _ := verify(t, r, VerifyOptions{Stopped: true}); !two(problems) {
		t.Errorf("want two problems, found %v", problems)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if problems, found := verify(t, r, VerifyOptions{}); !two(problems) || found.InUse || found.OpenParts != 1 {
		t.Errorf("want two problems, found %v, %+v", problems, found)
	}
	// In a copy it was under way when that was made.
	copied := filepath.Join(t.TempDir(), "copy.db")
	runSQL(t, path, "VACUUM INTO '"+copied+"'")
	if problems, found := verify(t, openTestReader(t, copied), VerifyOptions{}); problems != nil || found.InUse || !found.Copied || found.UnderWay != 2 {
		t.Errorf("found %v, %+v", problems, found)
	}
	if problems, _ := verify(t, openTestReader(t, copied), VerifyOptions{Stopped: true}); !two(problems) {
		t.Errorf("want two problems, found %v", problems)
	}
	// Neither does a reader keep a daemon out.
	finish(t, openTest(t, path), oldest, verdict.OK)
}

// Age removes the beginning, and leaves what the MES does not have.
func TestVerifyAfterRemoval(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openTest(t, path)
	images := NewImages(l, t.TempDir(), 1<<30)
	begun := time.Now().Add(-10 * time.Hour)
	var views []string
	for i := range 10 {
		made := record(t, l, source, func(made *verdict.Record) {
			made.Times.Triggered = verdict.Time{Time: begun.Add(time.Duration(i) * time.Hour)}
		})
		views = append(views, made.ResultID)
		if i != 0 && i != 2 { // those wait
			if err := l.Delivered(&Entry{Source: source, Sequence: made.Sequence}); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A part whose one view is older than what is kept.
	record(t, l, "/p/l/housing", func(made *verdict.Record) {
		made.Kind, made.SourceResultIDs, made.Evaluation, made.Reason = "part", views[4:6], verdict.Undefined, &verdict.Reason{Code: verdict.ReasonDeadline}
		made.Times.Triggered = verdict.Time{Time: begun.Add(4 * time.Hour)}
		made.Times.Finished = verdict.Time{Time: begun.Add(6 * time.Hour)}
	})
	if err := images.PruneRecords(t.Context(), begun.Add(4*time.Hour+time.Minute)); err != nil {
		t.Fatal(err)
	}
	r := openTestReader(t, path)
	if all := found(t, r, Query{}); all != "st-01/1 st-01/3 st-01/6 st-01/7 st-01/8 st-01/9 st-01/10 housing/1" {
		t.Errorf("found %s", all)
	}
	problems, found := verify(t, r, VerifyOptions{})
	want := []VerifiedSource{{"/p/l/housing", 1, 1, 1}, {source, 7, 6, 10}}
	if problems != nil || !slices.Equal(found.Sources, want) {
		t.Errorf("found %v, %+v", problems, found)
	}
	runSQL(t, path, `DELETE FROM results WHERE sequence = 8; DELETE FROM triggers WHERE finished = 1 AND trigger_id NOT IN (SELECT trigger_id FROM results)`)
	if problems, _ := verify(t, r, VerifyOptions{}); !slices.Equal(problems, []string{source + ": sequence 8 is missing"}) {
		t.Errorf("found %v", problems)
	}
	// Nothing is left of a source that made nothing for long.
	runSQL(t, path, `DELETE FROM results; DELETE FROM triggers; DELETE FROM outbox`)
	if problems, _ := verify(t, r, VerifyOptions{}); problems != nil {
		t.Errorf("found %v", problems)
	}
}

// Parts that are made to be tried out are counted apart; earlier versions did
// not, and had no digests.
func TestVerifyPurposes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openTest(t, path)
	challenge := func(made *verdict.Record) {
		made.Purpose, made.Evaluation, made.Reason = verdict.Challenge, verdict.NotOK, &verdict.Reason{Code: verdict.ReasonAnomaly}
	}
	record(t, l, source, nil)
	record(t, l, source, challenge)
	record(t, l, source, challenge)
	underWay := draft("")
	underWay.Purpose = verdict.Setup
	if _, _, err := l.Begin(source, underWay); err != nil {
		t.Fatal(err)
	}
	r := openTestReader(t, path)
	if problems, found := verify(t, r, VerifyOptions{}); problems != nil || found.Undigested != 0 {
		t.Errorf("found %v, %+v", problems, found)
	}
	runSQL(t, path, `UPDATE counters SET count = 1 WHERE kind = 'challenge/evaluation'`)
	want := []string{"/p/l/st-01: the counter of challenge/evaluation NotOK is 1, the ledger holds 2"}
	if problems, _ := verify(t, r, VerifyOptions{}); !slices.Equal(problems, want) {
		t.Errorf("found %v", problems)
	}
	runSQL(t, path, `UPDATE results SET digest = ''; DELETE FROM counters; INSERT INTO counters VALUES
		('/p/l/st-01', 'trigger', 'accepted', 4), ('/p/l/st-01', 'evaluation', 'OK', 1), ('/p/l/st-01', 'evaluation', 'NotOK', 2), ('/p/l/st-01', 'reason', 'anomaly', 2)`)
	if problems, found := verify(t, r, VerifyOptions{}); problems != nil || found.Undigested != 3 {
		t.Errorf("found %v, %+v", problems, found)
	}
}

// Files that no record names are told of, not those of a trigger under way.
func TestVerifyFiles(t *testing.T) {
	d := newDamaged(t)
	l := openTest(t, d.path)
	under := begin(t, l, "")
	day := filepath.Dir(filepath.Join(d.dir, d.pictures[0]))
	for _, name := range []string{under.TriggerID + ".png", "." + under.TriggerID + ".png123", "01ABC.png"} {
		if err := os.WriteFile(filepath.Join(day, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var notes []string
	problems, found := d.verify(VerifyOptions{Note: func(text string) { notes = append(notes, text) }})
	want := []string{"no record names the file " + filepath.Join(day, "01ABC.png")}
	if problems != nil || !slices.Equal(notes, want) || found.Pictures != 3 {
		t.Errorf("found %v, %v, %+v", problems, notes, found)
	}
}

// What SQLite finds is told, and what can still be read is verified.
func TestVerifyDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openTest(t, path)
	for range 100 {
		record(t, l, source, nil)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The pages of records, which are the most; the first ones hold the tables.
	for at := len(content) / 2; at < len(content)/2+4*4096; at++ {
		content[at] = 0xa5
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	problems, _ := verify(t, openTestReader(t, path), VerifyOptions{})
	all := strings.Join(problems, "\n")
	if !strings.Contains(all, "SQLite's integrity check: ") || len(problems) < 2 {
		t.Errorf("found %s", all)
	}
}

// One state of the ledger is verified while a daemon writes.
func TestVerifyWhileWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openTest(t, path)
	record(t, l, source, nil)
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		count := 1
		for {
			select {
			case <-stop:
				stopped <- count
				return
			default:
			}
			made := draft("")
			_, _, err := l.Begin(source, made)
			made.Evaluation, made.Times.Finished = verdict.OK, made.Times.Triggered
			if err != nil || l.Finish(source, made, time.Time{}, nil) != nil || l.Delivered(&Entry{Source: source, Sequence: made.Sequence}) != nil {
				t.Error("nothing could be written")
			}
			count++
		}
	}()
	r := openTestReader(t, path)
	results := 0
	for results < 20 {
		problems, found := verify(t, r, VerifyOptions{})
		if problems != nil || found.UnderWay > 1 || len(found.Sources) != 1 || found.Sources[0].Results < results {
			t.Fatalf("found %v, %+v", problems, found)
		}
		results = found.Sources[0].Results
	}
	close(stop)
	if count := <-stopped; results > count {
		t.Errorf("%d results of %d were seen", results, count)
	}
}
