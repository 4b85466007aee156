package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gladd/daemon/internal/ledger"
	"gladd/engines/enginetest"
)

func TestLedgerExport(t *testing.T) {
	r := record(t)
	// JSON lines hold the records as they were published.
	code, stdout, stderr := looked(t, "export", "--config", r.config, "--format", "jsonl")
	want := ""
	for _, raw := range r.raw {
		want += `{"source":"/p/l/st-01","record":` + string(raw) + "}\n"
	}
	if code != 0 || stdout != want {
		t.Errorf("exit code %d: want\n%s\nfound\n%s%s", code, want, stdout, stderr)
	}

	code, stdout, stderr = looked(t, "export", "--config", r.config, "--since", "1h", "--format", "csv")
	if code != 0 || strings.Count(stdout, "\r\n") != 5 {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	rows, err := csv.NewReader(strings.NewReader(stdout)).ReadAll()
	if err != nil || len(rows) != 5 {
		t.Fatalf("%d rows: %v", len(rows), err)
	}
	cells := map[string]string{}
	for i, name := range rows[0] {
		cells[name] = rows[2][i]
	}
	record := r.records[1]
	for name, want := range map[string]any{
		"ledger_id": record["ledger_id"], "source": "/p/l/st-01", "sequence": "2", "result_id": record["result_id"], "trigger_id": record["trigger_id"], "kind": "view", "view": "",
		"part_id": "'=1+1", "measurement_id": "", "attempt": "1", "purpose": "production", "evaluation": record["evaluation"], "image_threshold": "1", "recipe": "r",
		"bundle_digest": record["bundle"].(map[string]any)["digest"], "calibration_id": "cal-1", "triggered": record["times"].(map[string]any)["triggered"],
		"finished": record["times"].(map[string]any)["finished"], "image_sha256": record["image"].(map[string]any)["sha256"],
		"clock_synchronized": fmt.Sprint(record["clock"].(map[string]any)["synchronized"]), "latency_ms": fmt.Sprint(record["latency_ms"]), "anomaly_score": fmt.Sprint(record["anomaly_score"]),
	} {
		if cells[name] != want {
			t.Errorf("%s: want %v, found %s", name, want, cells[name])
		}
	}
	if rows[1][8] != "'-m" || rows[4][7] != `P, "4"` {
		t.Errorf("found %q and %q", rows[1][8], rows[4][7])
	}
	if code, _, _ := looked(t, "export", "--config", r.config, "--format", "csv", "--since", "1h", "--until", "30m"); code != 0 {
		t.Errorf("nothing is nothing wrong: exit code %d", code)
	}

	file := filepath.Join(r.dir, "out.csv")
	code, none, stderr := looked(t, "export", "--config", r.config, "--format", "csv", "--out", file)
	if code != 0 || none != "" || !strings.Contains(stderr, "results=4") || string(enginetest.ReadFile(t, file)) != stdout {
		t.Errorf("exit code %d: %s%s", code, none, stderr)
	}
	code, _, stderr = looked(t, "export", "--config", r.config, "--format", "csv", "--out", filepath.Join(r.dir, "nowhere", "out.csv"))
	if code != 1 || !strings.Contains(stderr, "write "+filepath.Join(r.dir, "nowhere", "out.csv")+": ") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	r.kill()

	// A record that cannot be read does not keep the others.
	r.sql(`UPDATE results SET record = '{' WHERE sequence = 2`)
	for _, format := range []string{"csv", "jsonl"} {
		code, stdout, stderr = looked(t, "export", "--config", r.config, "--format", format)
		if code != 1 || !strings.Contains(stdout, r.records[3]["result_id"].(string)) || strings.Contains(stdout, r.records[1]["result_id"].(string)) ||
			!strings.Contains(stderr, "(/p/l/st-01, sequence 2) cannot be read") || !strings.Contains(stderr, "records that cannot be read and are left out: 1") {
			t.Errorf("%s: exit code %d: %s%s", format, code, stdout, stderr)
		}
	}
	code, stdout, _ = looked(t, "list", "--config", r.config)
	if code != 0 || !strings.Contains(stdout, "  the record of result "+r.records[1]["result_id"].(string)+" (/p/l/st-01, sequence 2) cannot be read: ") {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	code, stdout, _ = looked(t, "show", "--config", r.config, r.records[1]["result_id"].(string))
	if code != 0 || !strings.Contains(stdout, "  problem      the record of result ") {
		t.Errorf("exit code %d: %s", code, stdout)
	}
}

// Nobody reads any more: that is no fault, a full disk is.
func TestLedgerOutputThatEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	opened, err := ledger.Open(t.Context(), ledger.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Close(); err != nil {
		t.Fatal(err)
	}
	arguments := []string{"ledger", "export", "--ledger", path, "--format", "csv"}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reader.Close()
	defer writer.Close()
	var stderr bytes.Buffer
	if code := run(t.Context(), arguments, writer, &stderr); code != 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
	// As a process it is ended by the signal, as other programs are.
	stderr.Reset()
	process := exec.Command(os.Args[0], arguments...)
	process.Env = append(os.Environ(), asProgram+"=1")
	process.Stdout, process.Stderr = writer, &stderr
	process.Run() //nolint:errcheck // its state says it
	if status := process.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGPIPE || stderr.Len() > 0 {
		t.Errorf("want an end by SIGPIPE, found %v: %s", status, &stderr)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	if code := run(t.Context(), arguments, full, &stderr); code != 1 || !strings.Contains(stderr.String(), "writing the results: ") {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
}
