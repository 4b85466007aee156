package export

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"
	"time"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// Cells of foreign text are no formulas, and come out of a reader as they went
// in but for the apostrophe.
func TestCSV(t *testing.T) {
	for text, want := range map[string]string{
		"P-1": "P-1", "": "", "=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)", "\tx": "'\tx", "\r=x": "'=x", // package csv leaves a single \r out
		"1=1": "1=1", "'=1": "'=1", `a "b", c`: `a "b", c`, "ä;\u2028": "ä;\u2028", " =1": " =1",
	} {
		score := -0.25
		record := &verdict.Record{
			LedgerID: text, ResultID: text, TriggerID: text, Sequence: -3, Kind: text, View: &text, Part: verdict.Part{ID: &text}, MeasurementID: &text,
			Purpose: verdict.Purpose(text), Evaluation: verdict.Evaluation(text), Reason: &verdict.Reason{Code: verdict.ReasonCode(text), Detail: text}, AnomalyScore: &score,
			Recipe: verdict.Recipe{Name: text}, Bundle: verdict.Bundle{Digest: text}, CalibrationID: &text, Image: &verdict.Image{SHA256: text},
		}
		var out bytes.Buffer
		rows, err := NewCSV(&out)
		if err != nil {
			t.Fatal(err)
		}
		if err := rows.Write(text, record); err != nil {
			t.Fatal(err)
		}
		if err := rows.Flush(); err != nil {
			t.Fatal(err)
		}
		read, err := csv.NewReader(&out).ReadAll()
		if err != nil || len(read) != 2 || len(read[1]) != len(Columns) {
			t.Fatalf("%q: %v, %v", text, read, err)
		}
		for i, cell := range read[1] {
			switch column := Columns[i]; column {
			case "sequence", "attempt", "anomaly_score", "image_threshold", "triggered", "finished", "latency_ms", "clock_synchronized":
				if strings.HasPrefix(cell, "'") {
					t.Errorf("%s: numbers and times are left as they are, found %q", column, cell)
				}
			default:
				if cell != want {
					t.Errorf("%s: want %q, found %q", column, want, cell)
				}
			}
		}
	}
}

func TestCSVOfNothing(t *testing.T) {
	var out bytes.Buffer
	rows, err := NewCSV(&out)
	if err != nil {
		t.Fatal(err)
	}
	record := &verdict.Record{Attempt: 1, LatencyMS: 1e-7}
	record.Times.Triggered.Time = time.UnixMilli(1795510800123)
	if err := rows.Write("s", record); err != nil {
		t.Fatal(err)
	}
	if err := rows.Flush(); err != nil {
		t.Fatal(err)
	}
	want := strings.Join(Columns, ",") + "\r\n,s,0,,,,,,,1,,,,,,,,,,2026-11-24T09:00:00.123Z,0001-01-01T00:00:00.000Z,1e-07,false,\r\n"
	if out.String() != want {
		t.Errorf("want  %q\nfound %q", want, out.String())
	}
}

func TestLine(t *testing.T) {
	var out bytes.Buffer
	if err := Line(&out, &ledger.Stored{Source: "/p/l/<s>", JSON: []byte(`{"b": "<&>" ,"a":1.50}`)}); err != nil {
		t.Fatal(err)
	}
	if want := `{"source":"/p/l/<s>","record":{"b": "<&>" ,"a":1.50}}` + "\n"; out.String() != want {
		t.Errorf("the record is as it was: want %s, found %s", want, &out)
	}
}
