package main

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gladd/capture"
	"gladd/daemon/internal/mes/mestest"
	"gladd/engines"
	"gladd/engines/enginetest"
)

// The fault tests take away what the real daemon stands on: its life, the
// broker, the network, the disk. Each has a short form for 'make test' and a
// long one for 'make test-faults'.

// long says whether the long form is wanted.
func long() bool { return os.Getenv("GLADD_FAULTS") != "" }

// scale is a number for the form that is wanted.
func scale[T any](short, whole T) T {
	if long() {
		return whole
	}
	return short
}

// unavailable ends a test that this machine does not allow: the short form is
// left out, the long one is not to be passed over.
func unavailable(t *testing.T, format string, arguments ...any) {
	t.Helper()
	if long() {
		t.Fatalf(format, arguments...)
	}
	t.Skipf(format, arguments...)
}

// line is a box of several stations with a model so small that it starts in a
// tenth of a second and inspects a part in some milliseconds. One of its two
// pictures is OK.
type line struct {
	*site
	stations []string
	recipe   string
	pictures string // the stations' folder

	ledger   string        // path
	images   string        // path
	keep     string        // all | not-ok | none
	age      time.Duration // how long records are kept
	mqtt     string        // more keys
	deadline time.Duration
	queue    int
}

func newLine(t *testing.T, broker string, stations int) *line {
	t.Helper()
	l := &line{site: &site{t: t, dir: t.TempDir(), broker: broker}, keep: "all", age: 2160 * time.Hour, deadline: 20 * time.Second, queue: 16,
		recipe: "bundle: bundle, class: left, mode: exact", pictures: "pictures"}
	l.ledger, l.images = filepath.Join(l.dir, "ledger.db"), filepath.Join(l.dir, "images")
	for i := range stations {
		l.stations = append(l.stations, fmt.Sprintf("st-%02d", i+1))
	}
	bundle := filepath.Join(l.dir, "bundle")
	if err := os.Rename(enginetest.Copy(t, enginetest.Micro(t)), bundle); err != nil {
		t.Fatal(err)
	}
	loaded := enginetest.Load(t, bundle)
	enginetest.WriteFile(t, filepath.Join(bundle, engines.CalibrationsFile), fmt.Appendf(nil, `schema: gladd.calibrations/v1
calibrations:
  - {id: cal-1, model_digest: %s, class: left, backend: onnxruntime, precision: fp32, mode: exact, plan: exact, gate_threshold: 0.05,
     image_threshold: 0.5, guard_band: 0}
`, loaded.ModelDigest))
	if err := os.Symlink(filepath.Join(enginetest.Micro(t), "images"), filepath.Join(l.dir, "pictures")); err != nil {
		t.Fatal(err)
	}
	return l
}

// newPlates is a line of one station with the demo's model, which takes as long
// for a part as models do.
func newPlates(t *testing.T, broker string) *line {
	t.Helper()
	l := newLine(t, broker, 1)
	pictures := filepath.Join(l.dir, "plates")
	if code, _, stderr := gladd(t, "line", "--out", pictures, "--train", "0", "--good", "4", "--defective", "0"); code != 0 {
		t.Fatal(stderr)
	}
	l.recipe, l.pictures = fmt.Sprintf("bundle: %q, mode: exact", enginetest.Path(t, "bundles/demo")), filepath.Join(pictures, "test", "good")
	return l
}

// write writes the configuration and returns its path.
func (l *line) write() string {
	l.t.Helper()
	text := fmt.Sprintf(`site: p
line: l
box: box-1
ledger: {path: %q, keep: %s, images: {dir: %q, keep: %s}}
mqtt: {url: %q%s}
web: {listen: "127.0.0.1:0"}
gpu: {monitor: none}
engines: {threads: 1}
recipes: {r: {%s}}
stations:
`, l.ledger, l.age, l.images, l.keep, l.broker, l.mqtt, l.recipe)
	for _, station := range l.stations {
		text += fmt.Sprintf("  - {name: %s, recipe: r, camera: {source: \"folder:%s?loop=true\"}, deadline: %s, queue: %d}\n", station, l.pictures, l.deadline, l.queue)
	}
	path := filepath.Join(l.dir, "gladd.yaml")
	enginetest.WriteFile(l.t, path, []byte(text))
	return path
}

// command is a station's topic of start commands.
func command(station string) string { return "insp/v1/p/l/" + station + "/cmd/start" }

// checkLedger looks into the ledger of a daemon that has ended: every trigger
// has its one record, every station's sequence goes from 1 to the number that
// is wanted, the counters agree, the MES has everything, and the pictures are
// those that are noted.
func (l *line) checkLedger(accepted map[string]int) {
	l.t.Helper()
	database, err := sql.Open("sqlite3", "file:"+l.ledger)
	if err != nil {
		l.t.Fatal(err)
	}
	defer database.Close() //nolint:errcheck // it is only read
	ask := func(query string, arguments ...any) (answer string) {
		l.t.Helper()
		if err := database.QueryRow(query, arguments...).Scan(&answer); err != nil {
			l.t.Fatalf("%s: %v", query, err)
		}
		return answer
	}
	total := 0
	for _, count := range accepted {
		total += count
	}
	for query, want := range map[string]string{
		`PRAGMA integrity_check`:                           "ok",
		`SELECT count(*) FROM pragma_foreign_key_check`:    "0",
		`SELECT count(*) FROM triggers`:                    fmt.Sprint(total),
		`SELECT count(*) FROM triggers WHERE finished = 0`: "0",
		`SELECT count(*) FROM results`:                     fmt.Sprint(total),
		`SELECT count(*) FROM outbox`:                      "0",
		`SELECT count(*) FROM results WHERE trigger_id NOT IN (SELECT trigger_id FROM triggers)`: "0",
	} {
		if found := ask(query); found != want {
			l.t.Errorf("%s: want %s, found %s", query, want, found)
		}
	}
	for _, station := range l.stations {
		source, want := "/p/l/"+station, accepted[station]
		if found := ask(`SELECT count(*) || ' up to ' || coalesce(max(sequence), 0) FROM results WHERE source = ?`, source); found != fmt.Sprintf("%d up to %[1]d", want) {
			l.t.Errorf("%s: want %d records without a gap, found %s", station, want, found)
		}
		for kind, query := range map[string]string{
			"trigger":    `SELECT coalesce(sum(count), 0) FROM counters WHERE source = ? AND kind = 'trigger'`,
			"evaluation": `SELECT coalesce(sum(count), 0) FROM counters WHERE source = ? AND kind = 'evaluation'`,
		} {
			if found := ask(query, source); found != fmt.Sprint(want) {
				l.t.Errorf("%s: want %d counted by %s, found %s", station, want, kind, found)
			}
		}
	}
	l.checkPictures(database)
	var stdout, stderr bytes.Buffer
	if code := run(l.t.Context(), []string{"ledger", "verify", "--stopped", "--ledger", l.ledger}, &stdout, &stderr); code != 0 {
		l.t.Errorf("gladd ledger verify: exit code %d:\n%s%s", code, &stdout, &stderr)
	}
}

// checkPictures compares the pictures in the folder with the records: each is
// there that a record names, with the pixels that it names, and no other.
func (l *line) checkPictures(database *sql.DB) {
	l.t.Helper()
	rows, err := database.Query(`SELECT path, record ->> '$.image.sha256', record ->> '$.image.kept' FROM results
		LEFT JOIN images USING (trigger_id) WHERE path IS NOT NULL OR record ->> '$.image.kept'`)
	if err != nil {
		l.t.Fatal(err)
	}
	defer rows.Close()
	named := map[string]bool{}
	for rows.Next() {
		var path, sha256 sql.NullString
		var kept sql.NullBool
		if err := rows.Scan(&path, &sha256, &kept); err != nil {
			l.t.Fatal(err)
		}
		file := filepath.Join(l.images, path.String)
		named[file] = true
		frame, err := capture.ReadFrame(file)
		if err != nil {
			l.t.Errorf("a kept picture: %v", err)
		} else if found := enginetest.Digest(frame.Picture.RGB); !kept.Bool || found != sha256.String {
			l.t.Errorf("%s: want %s, found %s; kept: %t", file, sha256.String, found, kept.Bool)
		}
	}
	if err := rows.Err(); err != nil {
		l.t.Fatal(err)
	}
	if l.keep == "all" && len(named) == 0 {
		l.t.Error("no picture is kept")
	}
	files, err := filepath.Glob(filepath.Join(l.images, "*", "*", "*")) // names with a dot before them, too
	if err != nil {
		l.t.Fatal(err)
	}
	for _, file := range files {
		if !named[file] {
			l.t.Errorf("a picture that no record names: %s", file)
		}
	}
}

// records are the records of a station's verdicts by the triggers' ids, checked
// to have come in order and without gaps.
func records(t *testing.T, mes *mestest.MES, station string, count int) map[string]map[string]any {
	t.Helper()
	return mestest.CheckOrder(t, mes.Verdicts(station), count)
}
