package verdict_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gladd/daemon/internal/verdict"
	"gladd/daemon/internal/verdict/verdicttest"
)

const ulid = "01M86EGTH21DJCNX2R261KQR66"

func text(words string) *string { return &words }

// full is a record with everything in it.
func full() verdict.Record {
	score, threshold, offset, views := 0.25, 0.5, -0.125, 2
	at := verdict.Time{Time: time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.FixedZone("CET", 3600))}
	return verdict.Record{
		ResultID: ulid, TriggerID: ulid, CommandID: text("c-1"), LedgerID: ulid, Sequence: 7,
		Kind: "view", View: text("top"), ViewsExpected: &views,
		Part: verdict.Part{ID: text("<P&1>"), IDSource: text("trigger"), ParentID: text("a"), Position: text("b"), ProductID: text("c"),
			OrderID: text("d"), CarrierID: text("e")},
		MeasurementID: text("m"), Attempt: 2, PreviousResultID: text(ulid), Purpose: verdict.MSA, IsSimulated: true,
		Evaluation: verdict.OK, ResultState: verdict.Completed, AnomalyScore: &score, ImageThreshold: &threshold,
		Recipe: verdict.Recipe{Name: "screw", Version: "1", Digest: "ab"}, Bundle: verdict.Bundle{Name: "screw", Version: "1.0.0", Digest: "cd"},
		CalibrationID: text("cal"), Method: verdict.Method{Software: "gladd 1", Backend: "onnxruntime", EngineDigest: text("ef"), Mode: "exact", Plan: "exact"},
		Camera: verdict.Camera{Name: "v4l2:/dev/video0", Serial: text("123")},
		Image:  &verdict.Image{SHA256: strings.Repeat("0a", 32), Width: 640, Height: 480, Kept: true}, Regions: []verdict.Region{{X: 1, Y: 2, Width: 3, Height: 4, Area: 5, Peak: 6.5}},
		Context: json.RawMessage(`{"a":[1]}`), Times: verdict.Times{Triggered: at, Captured: &at, Finished: at},
		Clock: verdict.Clock{Synchronized: true, OffsetMS: &offset}, LatencyMS: 12.5,
		Diagnostics: &verdict.Diagnostics{SwitchTimestep: 331, SwitchReason: "threshold", Gate: []verdict.GateScore{{Timestep: 331, Score: 0.5}}},
	}
}

// bare is a record with nothing in it that need not be.
func bare() verdict.Record {
	at := verdict.Time{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	return verdict.Record{
		ResultID: ulid, TriggerID: ulid, LedgerID: ulid, Sequence: 1, Kind: "view", Attempt: 1, Purpose: verdict.Production,
		Recipe: verdict.Recipe{Name: "r"}, Bundle: verdict.Bundle{Name: "b"}, Method: verdict.Method{Mode: "exact"}, Camera: verdict.Camera{Name: "c"},
		Evaluation: verdict.Undefined, ResultState: verdict.Failed, Reason: &verdict.Reason{Code: verdict.ReasonCamera, Detail: "unplugged"},
		Context: json.RawMessage("{}"), Times: verdict.Times{Triggered: at, Finished: at},
	}
}

// partRecord is the record of a part of two views.
func partRecord() verdict.Record {
	record, views := bare(), 2
	record.Kind, record.ViewsExpected, record.SourceResultIDs, record.IsPartial = "part", &views, []string{ulid}, true
	record.Part.ID, record.Part.IDSource = text("P-1"), text("trigger")
	record.Recipe, record.Bundle, record.Method, record.Camera = verdict.Recipe{}, verdict.Bundle{}, verdict.Method{}, verdict.Camera{}
	return record
}

// goodPart is the record of a part whose views are all OK.
func goodPart() verdict.Record {
	record := partRecord()
	record.Evaluation, record.ResultState, record.Reason, record.IsPartial = verdict.OK, verdict.Completed, nil, false
	return record
}

func TestSchema(t *testing.T) {
	for name, record := range map[string]verdict.Record{"full": full(), "bare": bare(), "part": partRecord(), "good part": goodPart()} {
		encoded, err := verdict.JSON(record)
		if err != nil {
			t.Fatal(err)
		}
		if err := verdicttest.Validate(encoded); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// Every key is always present.
		var keys map[string]any
		if err := json.Unmarshal(encoded, &keys); err != nil || len(keys) != reflect.TypeFor[verdict.Record]().NumField() {
			t.Errorf("%s: found %d keys, %v", name, len(keys), err)
		}
	}
	for name, change := range map[string]func(*verdict.Record){
		"OK with a reason":     func(r *verdict.Record) { r.Reason = &verdict.Reason{Code: verdict.ReasonAnomaly} },
		"OK without a score":   func(r *verdict.Record) { r.AnomalyScore = nil },
		"OK of a failure":      func(r *verdict.Record) { r.ResultState = verdict.Failed },
		"NotOK without reason": func(r *verdict.Record) { r.Evaluation = verdict.NotOK },
		"unknown evaluation":   func(r *verdict.Record) { r.Evaluation = "Fine" },
		"no sequence":          func(r *verdict.Record) { r.Sequence = 0 },
		"unknown reason":       func(r *verdict.Record) { r.Evaluation, r.Reason = verdict.Undefined, &verdict.Reason{Code: "weather"} },
		"a view of views":      func(r *verdict.Record) { r.SourceResultIDs = []string{ulid} },
		"half a view":          func(r *verdict.Record) { r.IsPartial = true },
		"a view of no recipe":  func(r *verdict.Record) { r.Recipe = verdict.Recipe{} },
		"a view of no bundle":  func(r *verdict.Record) { r.Bundle = verdict.Bundle{} },
		"a view of no method":  func(r *verdict.Record) { r.Method = verdict.Method{} },
		"a view of no camera":  func(r *verdict.Record) { r.Camera = verdict.Camera{} },
		"a part of nothing":    func(r *verdict.Record) { *r = goodPart(); r.SourceResultIDs = nil },
		"a part of how many":   func(r *verdict.Record) { *r = goodPart(); r.ViewsExpected = nil },
		"a part without id":    func(r *verdict.Record) { *r = goodPart(); r.Part.ID = nil },
		"a part with a recipe": func(r *verdict.Record) { *r = goodPart(); r.Recipe.Name = "r" },
		"a part with a score":  func(r *verdict.Record) { *r = goodPart(); r.AnomalyScore = new(float64) },
		"half a good part":     func(r *verdict.Record) { *r = goodPart(); r.IsPartial = true },
		"a part with context":  func(r *verdict.Record) { *r = goodPart(); r.Context = json.RawMessage(`{"a":1}`) },
	} {
		record := full()
		change(&record)
		encoded, err := verdict.JSON(record)
		if err != nil {
			t.Fatal(err)
		}
		if err := verdicttest.Validate(encoded); err == nil {
			t.Errorf("%s: the schema must refuse it", name)
		}
	}
}

// What is read from the ledger is what was written, to the last digit.
func TestRecordSurvives(t *testing.T) {
	record := full()
	tenth := 0.1
	score := tenth + 0.2
	record.AnomalyScore = &score
	encoded, err := verdict.JSON(record)
	if err != nil {
		t.Fatal(err)
	}
	var decoded verdict.Record
	if err := json.Unmarshal(encoded, &decoded); err != nil {
		t.Fatal(err)
	}
	again, err := verdict.JSON(decoded)
	if err != nil || !bytes.Equal(encoded, again) {
		t.Errorf("%v:\n%s\n%s", err, encoded, again)
	}
	for _, want := range []string{`"anomaly_score":0.30000000000000004`, `"id":"<P&1>"`, `"triggered":"2026-01-02T02:04:05.678Z"`} {
		if !bytes.Contains(encoded, []byte(want)) {
			t.Errorf("no %s in %s", want, encoded)
		}
	}
}

func TestEvent(t *testing.T) {
	for name, test := range map[string]struct {
		record verdict.Record
		keys   []string
	}{
		"with a part id":    {full(), []string{"data", "datacontenttype", "dataschema", "id", "source", "specversion", "subject", "time", "type"}},
		"without a part id": {bare(), []string{"data", "datacontenttype", "dataschema", "id", "source", "specversion", "time", "type"}},
	} {
		encoded, err := verdict.JSON(test.record)
		if err != nil {
			t.Fatal(err)
		}
		event, err := verdict.Event("/p/l/st-01", encoded)
		if err != nil {
			t.Fatal(err)
		}
		var decoded map[string]json.RawMessage
		if err := json.Unmarshal(event, &decoded); err != nil {
			t.Fatal(err)
		}
		var keys []string
		for key := range decoded {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		if !slices.Equal(keys, test.keys) {
			t.Errorf("%s: want %v, found %v", name, test.keys, keys)
		}
		if !bytes.Equal(decoded["data"], encoded) || string(decoded["id"]) != `"`+ulid+`"` || string(decoded["source"]) != `"/p/l/st-01"` {
			t.Errorf("%s: found %s", name, event)
		}
	}
	if _, err := verdict.Event("/p/l/s", []byte("damaged")); err == nil {
		t.Error("want it refused")
	}
}

func TestStateOf(t *testing.T) {
	for reason, want := range map[verdict.ReasonCode]verdict.ResultState{
		verdict.ReasonUncalibrated: verdict.Completed, verdict.ReasonUnqualified: verdict.Completed, verdict.ReasonCamera: verdict.Failed,
		verdict.ReasonDeadline: verdict.Failed, verdict.ReasonShutdown: verdict.Aborted, verdict.ReasonRestarted: verdict.Aborted,
	} {
		if found := verdict.StateOf(verdict.Undefined, &verdict.Reason{Code: reason}); found != want {
			t.Errorf("%s: want %s, found %s", reason, want, found)
		}
	}
	if verdict.StateOf(verdict.OK, nil) != verdict.Completed {
		t.Error("OK is completed")
	}
}
