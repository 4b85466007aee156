package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
	"gladd/engines/enginetest"
)

// recorded is a site whose daemon has recorded five parts, of which the broker
// has none: OK, NotOK, OK and NotOK, and one without a picture.
type recorded struct {
	*site
	config  string
	daemon  *process
	records []map[string]any
	raw     []json.RawMessage
}

func record(t *testing.T) *recorded {
	t.Helper()
	r := &recorded{site: newSite(t, "mqtt://127.0.0.1:1")} // where nobody listens
	r.config = r.site.config(oneStation)
	r.daemon = start(t, r.config)
	for i, body := range []string{
		`{"part_id": "P-1", "command_id": "c-1", "measurement_id": "-m"}`, `{"part_id": "=1+1"}`, `{"purpose": "challenge"}`, `{"part_id": "P, \"4\""}`,
	} {
		_, answer := r.daemon.get("POST", "/api/v1/stations/st-01/start?wait=true", body)
		var event struct{ Data json.RawMessage }
		if err := json.Unmarshal([]byte(answer), &event); err != nil || event.Data == nil {
			t.Fatalf("part %d: %s: %v", i, answer, err)
		}
		r.raw = append(r.raw, event.Data)
		r.records = append(r.records, lines(t, string(event.Data))...)
	}
	return r
}

func (r *recorded) kill() {
	r.t.Helper()
	if err := r.daemon.command.Process.Kill(); err != nil {
		r.t.Fatal(err)
	}
	<-r.daemon.exited
}

// sql changes the ledger.
func (s *site) sql(statements string) {
	s.t.Helper()
	database, err := sql.Open("sqlite3", "file:"+filepath.Join(s.dir, "ledger.db")+"?_busy_timeout=5000")
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = database.Exec(statements)
	if err := errors.Join(err, database.Close()); err != nil {
		s.t.Fatalf("%s: %v", statements, err)
	}
}

// looked runs 'gladd ledger'.
func looked(t *testing.T, arguments ...string) (code int, stdout, stderr string) {
	t.Helper()
	return gladd(t, append([]string{"ledger"}, arguments...)...)
}

func TestLedgerWhileTheDaemonRuns(t *testing.T) {
	r := record(t)
	code, stdout, stderr := looked(t, "list", "--config", r.config)
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	list := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	line := regexp.MustCompile(`^\S+Z  st-01 +(\d)  (OK|NotOK) +(anomaly|) +\d\.\d{4}  waiting +1  \w{26}(  .*|)$`)
	if len(list) != 5 || !strings.HasPrefix(list[0], "FINISHED") {
		t.Fatalf("found %s", stdout)
	}
	for i, want := range []string{`  "P-1"`, `  "=1+1"`, "  challenge", `  "P, \"4\""`} {
		found := line.FindStringSubmatch(list[i+1])
		if found == nil || found[1] != fmt.Sprint(i+1) || found[2] != r.records[i]["evaluation"] || found[4] != want {
			t.Errorf("result %d: found %q", i, list[i+1])
		}
	}
	code, stdout, _ = looked(t, "list", "--config", r.config, "--format", "json", "--limit", "2", "--waiting", "--since", "1h", "--station", "st-01")
	found := lines(t, stdout)
	if code != 0 || len(found) != 2 {
		t.Fatalf("exit code %d: %s", code, stdout)
	}
	for i, each := range found {
		record := r.records[i+2]
		if each["result_id"] != record["result_id"] || each["source"] != "/p/l/st-01" || each["sequence"] != record["sequence"] || each["anomaly_score"] != record["anomaly_score"] ||
			each["purpose"] != record["purpose"] || each["part_id"] != record["part"].(map[string]any)["id"] || each["delivery"].(map[string]any)["state"] != "waiting" || each["problem"] != nil {
			t.Errorf("found %v", each)
		}
	}
	for _, none := range [][]string{
		{"--parked"}, {"--part", "P-7"}, {"--evaluation", "NotDecidable"}, {"--purpose", "msa"}, {"--station", "st-02"}, {"--until", "2026-01-01"},
	} {
		code, stdout, _ := looked(t, append([]string{"list", "--config", r.config}, none...)...)
		if code != 0 || stdout != "no such results\n" {
			t.Errorf("%v: exit code %d: %s", none, code, stdout)
		}
	}
	code, stdout, _ = looked(t, "list", "--config", r.config, "--part", "=1+1", "--format", "json")
	if found := lines(t, stdout); code != 0 || len(found) != 1 || found[0]["result_id"] != r.records[1]["result_id"] {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	code, stdout, _ = looked(t, "list", "--config", r.config, "--unfinished")
	if code != 0 || stdout != "no such triggers\n" {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	code, stdout, stderr = looked(t, "verify", "--config", r.config, "--pictures")
	if code != 0 || !strings.Contains(stdout, "  /p/l/st-01: 4 results, sequence 1 to 4\n") || strings.Contains(stdout, "digest") || !strings.HasSuffix(stdout, "  4 pictures\nall is right\n") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

func TestLedgerShow(t *testing.T) {
	r := record(t)
	id := r.records[0]["result_id"].(string)
	code, stdout, stderr := looked(t, "show", "--config", r.config, id)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	trigger := r.records[0]["trigger_id"].(string)
	picture, err := filepath.Glob(filepath.Join(r.dir, "images", "st-01", "*", trigger+".png"))
	if err != nil || len(picture) != 1 {
		t.Fatalf("found %v, %v", picture, err)
	}
	for _, want := range []string{
		id + "  " + r.records[0]["evaluation"].(string), "/p/l/st-01, sequence 1\n", trigger + ", accepted ", `"P-1", measurement "-m", attempt 1`, "production, simulated\n",
		`"c-1"`, `r, version "1"`, fmt.Sprintf("%v, threshold 1\n", r.records[0]["anomaly_score"]), `"cal-1"`, picture[0] + ", ", ", right\n", "waiting, since ",
		`{"command_id":"c-1","trigger_id":"` + trigger + `","accepted":true,"reason":null}`,
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("want %s, found\n%s", want, stdout)
		}
	}
	code, stdout, _ = looked(t, "show", "--config", r.config, "--format", "json", trigger, r.records[1]["result_id"].(string))
	found := lines(t, stdout)
	if code != 0 || len(found) != 2 || found[0]["trigger_id"] != trigger || found[0]["picture"].(map[string]any)["path"] != picture[0] || found[0]["draft"] != nil ||
		found[0]["reply"].(map[string]any)["accepted"] != true || found[1]["reply"] != nil {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	if record, err := verdict.JSON(found[0]["record"]); err != nil || !bytes.Equal(record, must(verdict.JSON(r.records[0]))) {
		t.Errorf("found %s, %v", record, err)
	}
	code, stdout, stderr = looked(t, "show", "--config", r.config, trigger, "nothing")
	if code != 2 || !strings.Contains(stdout, id) || !strings.Contains(stderr, `no result, trigger or part "nothing"; results older than ledger.keep are gone`) {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	r.kill()

	// What a part has beside its record.
	r.sql(`UPDATE outbox SET parked = 'rejected', reason = 'no such order', tries = 1, published = 0 WHERE sequence = 1;
		INSERT INTO reviews VALUES ('v-1', '` + id + `', 0, '{"by":"me"}');
		UPDATE triggers SET part_trigger = '` + trigger + `', part_id = 'P-9' WHERE trigger_id = '` + r.records[1]["trigger_id"].(string) + `';
		DELETE FROM images WHERE trigger_id = '` + trigger + `';
		INSERT INTO triggers (trigger_id, source, accepted, draft) SELECT 'T-5', source, 0, record FROM results WHERE sequence = 4`)
	_, stdout, _ = looked(t, "show", "--config", r.config, id)
	for _, want := range []string{
		`rejected: "no such order", since `, ", published once, last 1970-01-01T00:00:00.000Z\n", `1970-01-01T00:00:00.000Z  {"by":"me"}`, "removed since (ledger.images: max_bytes, ledger.keep)\n",
		"view's       " + r.records[1]["result_id"].(string) + "  ",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("want %s, found\n%s", want, stdout)
		}
	}
	_, stdout, _ = looked(t, "show", "--config", r.config, "P-9")
	if !strings.Contains(stdout, "part's       "+id+"  ") {
		t.Errorf("found\n%s", stdout)
	}
	_, stdout, _ = looked(t, "show", "--config", r.config, "T-5")
	if !strings.HasPrefix(stdout, "T-5  no result yet\n  trigger      T-5, accepted 1970-01-01T00:00:00.000Z\n  part         \"P, \\\"4\\\"\", attempt 1\n") {
		t.Errorf("found\n%s", stdout)
	}
	_, stdout, _ = looked(t, "list", "--config", r.config, "--parked")
	if !strings.HasSuffix(stdout, `  "P-1"  (rejected: "no such order")`+"\n") {
		t.Errorf("found\n%s", stdout)
	}
	_, stdout, _ = looked(t, "list", "--config", r.config, "--unfinished")
	if stdout != "1970-01-01T00:00:00.000Z  st-01       T-5  view  \"P, \\\"4\\\"\"\n" {
		t.Errorf("found\n%s", stdout)
	}
	_, stdout, _ = looked(t, "list", "--config", r.config, "--unfinished", "--format", "json")
	if found := lines(t, stdout); len(found) != 1 || found[0]["trigger_id"] != "T-5" || found[0]["attempt"] != 1.0 || found[0]["command_id"] != nil {
		t.Errorf("found\n%s", stdout)
	}
}

func TestLedgerVerify(t *testing.T) {
	r := record(t)
	r.kill()
	pictures, err := filepath.Glob(filepath.Join(r.dir, "images", "st-01", "*", "*.png"))
	if err != nil || len(pictures) != 4 {
		t.Fatalf("%d pictures: %v", len(pictures), err)
	}
	stranger := filepath.Join(r.dir, "images", "01ABC.png")
	enginetest.WriteFile(t, stranger, nil)
	code, stdout, stderr := looked(t, "verify", "--config", r.config, "--pictures")
	if code != 0 || !strings.HasPrefix(stdout, "note: no record names the file "+stranger+"\n") || !strings.HasSuffix(stdout, "all is right\n") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	enginetest.WriteFile(t, pictures[1], enginetest.ReadFile(t, pictures[2]))
	if err := os.Remove(pictures[0]); err != nil {
		t.Fatal(err)
	}
	r.sql(`DELETE FROM outbox; UPDATE results SET evaluation = 'OK' WHERE sequence = 2; INSERT INTO triggers (trigger_id, source, accepted, draft) VALUES ('T-9', '/p/l/st-01', 0, '{}')`)
	code, stdout, stderr = looked(t, "verify", "--config", r.config, "--pictures")
	for _, want := range []string{"sequence 2): evaluation: the ledger has OK, the record NotOK\n", "problem: trigger T-9 of /p/l/st-01, ", ": the file is gone\n", ": it is not the one that was inspected: "} {
		if !strings.Contains(stdout, want) {
			t.Errorf("want %s, found\n%s", want, stdout)
		}
	}
	ledgerPath, count := filepath.Join(r.dir, "ledger.db"), strings.Count(stdout, "problem: ")
	if code != 1 || strings.Contains(stdout, "all is right") || !strings.HasSuffix(stderr, fmt.Sprintf("gladd: ledger %s: %d problems\n", ledgerPath, count)) {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	code, stdout, _ = looked(t, "verify", "--ledger", ledgerPath, "--limit", "1")
	if code != 1 || strings.Count(stdout, "problem: ") != 1 || !strings.Contains(stdout, fmt.Sprintf("and %s\n", plural(count-3, "more problem"))) {
		t.Errorf("exit code %d: %s", code, stdout)
	}
}

// Results come in the order in which they were recorded, whatever the clock
// said, from all commands.
func TestLedgerOrderUnderClockJumps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	opened, err := ledger.Open(t.Context(), ledger.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i, jump := range []int{0, 3600, -1700000000, 60, -3600, 1000000000, 1} {
		at := verdict.Time{Time: time.Unix(1795510800+int64(jump), 0)}
		made := &verdict.Record{
			TriggerID: ulid.Make().String(), Kind: "view", Attempt: 1, Purpose: verdict.Production, Evaluation: verdict.OK, ResultState: verdict.Completed,
			Context: json.RawMessage(`{}`), Times: verdict.Times{Triggered: at, Finished: at},
		}
		source := fmt.Sprintf("/p/l/st-%d", i%2)
		if _, _, err := opened.Begin(source, made); err != nil {
			t.Fatal(err)
		}
		if err := opened.Finish(source, made, time.Time{}, nil); err != nil {
			t.Fatal(err)
		}
		want = append(want, made.ResultID)
	}
	if err := opened.Close(); err != nil {
		t.Fatal(err)
	}
	for name, arguments := range map[string][]string{
		"list":   {"ledger", "list", "--ledger", path},
		"export": {"ledger", "export", "--ledger", path, "--format", "csv"},
		"replay": {"replay", "--ledger", path, "--bundle", enginetest.TinyA(t), "--since", "1970-01-01"},
	} {
		_, stdout, stderr := gladd(t, arguments...)
		var found []string
		for _, id := range regexp.MustCompile(`\b01[0-9A-Z]{24}\b`).FindAllString(stdout, -1) {
			if slices.Contains(want, id) {
				found = append(found, id)
			}
		}
		if !slices.Equal(found, want) {
			t.Errorf("%s: want %v, found %v: %s", name, want, found, stderr)
		}
	}
	if code, stdout, _ := looked(t, "verify", "--ledger", path); code != 0 {
		t.Errorf("exit code %d: %s", code, stdout)
	}
}

func TestLedgerRefuses(t *testing.T) {
	s := newSite(t, "")
	config := s.config(oneStation)
	for name, test := range map[string]struct {
		arguments []string
		want      string
	}{
		"no ledger":             {[]string{"list"}, "which ledger? Name the daemon's configuration with --config, or a ledger with --ledger"},
		"not there":             {[]string{"verify", "--config", config}, "ledger " + filepath.Join(s.dir, "ledger.db") + ": no such file"},
		"no configuration":      {[]string{"show", "x", "--config", "nowhere.yaml"}, "nowhere.yaml"},
		"no time":               {[]string{"export", "--ledger", "x", "--format", "csv", "--since", "noon"}, `--since: expected a time such as 2026-11-24T08:00:00Z or 2026-11-24, or an age such as 8h, found "noon"`},
		"no format":             {[]string{"export", "--ledger", "x"}, "--format"},
		"another format":        {[]string{"export", "--ledger", "x", "--format", "xlsx"}, `"csv","jsonl"`},
		"another evaluation":    {[]string{"list", "--ledger", "x", "--evaluation", "good"}, "--evaluation"},
		"a limit below zero":    {[]string{"list", "--ledger", "x", "--limit=-1"}, "--limit: expected a number from 0 on, found -1"},
		"a limit for verify":    {[]string{"verify", "--ledger", "x", "--limit=-1"}, "--limit: expected a number from 0 on, found -1"},
		"unfinished and parked": {[]string{"list", "--ledger", "x", "--unfinished", "--parked"}, "--unfinished: such triggers have no result"},
		"no ids":                {[]string{"show", "--ledger", "x"}, "ID"},
		"no database":           {[]string{"list", "--ledger", config}, "file is not a database"},
	} {
		code, _, stderr := looked(t, test.arguments...)
		if code != 2 || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: want exit code 2 and %q, found %d: %s", name, test.want, code, stderr)
		}
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
