package verdict_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	_ "github.com/mattn/go-sqlite3" // the ledger's database looks into records

	"gladd/daemon/internal/verdict"
	"gladd/docs/schemas/schematest"
)

// FuzzParseCommand holds what is accepted against the command's schema, and the
// record that is made of it against everybody who will read it.
func FuzzParseCommand(f *testing.F) {
	for _, payload := range []string{
		`{}`, `{"part_id":"P-1","command_id":"c","expires_at":"2026-01-01T00:00:00Z","context":{"a":1}}`,
		`{"command_id":"\u0000","context":null}`, `{"part_id":"\ud800","view":"\uffff"}`, `{"expires_at":"9999-12-31T23:59:59.999999999+23:59"}`,
		`{"measurement_id":"m","purpose":"msa","parent_id":"a","position":"b","product_id":"c","order_id":"d","carrier_id":"e"}`,
		`{"continuous":true,"parent_id":"a"}`, `{"Part_ID":"P"}`, `{"context":{"a":1e999,"a":"\u0000\u2028<&>"}}`,
		`{"context":{"a":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}}`, `{"recipe":"r"}`, `{"part_id":"","command_id":""}`, `[{}]`, `{} {}`, "\xff", ` null `,
	} {
		for i := range verdict.Verbs {
			f.Add(byte(i), []byte(payload))
		}
	}
	database, err := sql.Open("sqlite3", ":memory:")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { database.Close() }) //nolint:errcheck // there is nothing in it
	f.Fuzz(func(t *testing.T, number byte, payload []byte) {
		verb := verdict.Verbs[int(number)%len(verdict.Verbs)]
		command, err := verdict.ParseCommand(verb, payload)
		if command.CommandID != nil {
			checkID(t, *command.CommandID)
		}
		if err != nil {
			if text := err.Error(); text == "" || !utf8.ValidString(text) || len(text) > 2*verdict.MaxCommandBytes {
				t.Errorf("%s: an error that says nothing: %q", payload, text)
			}
			return
		}
		if len(payload) > verdict.MaxCommandBytes {
			t.Errorf("accepted with %d bytes", len(payload))
		}
		if len(payload) == 0 && verb != verdict.VerbStart && verb != verdict.VerbPrepare {
			return // as good as {}
		}
		if err := schematest.Validate("command."+string(verb), payload); err != nil {
			t.Errorf("%s: accepted against its schema: %v", payload, err)
		}
		if verb != verdict.VerbStart {
			return
		}
		// What was understood can be written, and is understood the same.
		written, err := verdict.JSON(command.Start)
		if err != nil {
			t.Fatalf("%s: %v", payload, err)
		}
		again, err := verdict.ParseCommand(verb, written)
		if rewritten, second := verdict.JSON(again.Start); err != nil || second != nil || !bytes.Equal(rewritten, written) {
			t.Errorf("%s: understood as %s, and then as %s, %v, %v", payload, written, rewritten, err, second)
		}
		if !command.Start.IsContinuous() {
			checkRecord(t, database, command.Start)
		}
	})
}

// checkID checks that a reply can name a command.
func checkID(t *testing.T, id string) {
	t.Helper()
	reply, err := verdict.JSON(verdict.Reply{CommandID: &id, Reason: &verdict.Refusal{Code: verdict.RefusedInvalid, Detail: "wrong"}})
	if err == nil {
		err = schematest.Validate("reply", reply)
	}
	if err != nil || len(id) > 256 {
		t.Errorf("command id %q: %v", id, err)
	}
}

// checkRecord checks that a trigger gets a record that everybody can read.
func checkRecord(t *testing.T, database *sql.DB, start verdict.Start) {
	t.Helper()
	at := verdict.Time{Time: time.Date(2026, 11, 24, 9, 53, 58, 0, time.UTC)}
	record := verdict.Record{
		ResultID: ulid, TriggerID: ulid, LedgerID: ulid, Sequence: 1, CommandID: start.CommandID, Kind: verdict.KindView, View: start.View,
		Part:          verdict.Part{ID: start.PartID, ParentID: start.ParentID, Position: start.Position, ProductID: start.ProductID, OrderID: start.OrderID, CarrierID: start.CarrierID},
		MeasurementID: start.MeasurementID, Attempt: 1, Purpose: verdict.Production,
		Evaluation: verdict.Undefined, ResultState: verdict.Failed, Reason: &verdict.Reason{Code: verdict.ReasonCamera, Detail: "unplugged"},
		Recipe: verdict.Recipe{Name: "r"}, Bundle: verdict.Bundle{Name: "b"}, Method: verdict.Method{Mode: "exact"}, Camera: verdict.Camera{Name: "c"},
		Context: start.Context, Times: verdict.Times{Triggered: at, Finished: at},
	}
	if start.PartID != nil {
		byTrigger := "trigger"
		record.Part.IDSource = &byTrigger
	}
	if start.Purpose != nil {
		record.Purpose = *start.Purpose
	}
	if record.Context == nil {
		record.Context = []byte("{}")
	}
	if len(record.Context) > verdict.MaxContextBytes {
		t.Errorf("a context of %d bytes", len(record.Context))
	}
	encoded, err := verdict.JSON(record)
	if err != nil {
		t.Fatalf("a record that cannot be written: %v", err)
	}
	if err := schematest.Validate("verdict", encoded); err != nil {
		t.Errorf("a record against its schema: %v\n%s", err, encoded)
	}
	var read verdict.Record
	if err := json.Unmarshal(encoded, &read); err != nil {
		t.Fatalf("a record that cannot be read: %v", err)
	}
	if again, err := verdict.JSON(read); err != nil || !bytes.Equal(again, encoded) {
		t.Errorf("a record that is read differently, %v:\n%s\n%s", err, encoded, again)
	}
	var state string
	if err := database.QueryRow(`SELECT ? ->> '$.result_state'`, string(encoded)).Scan(&state); err != nil || state != string(record.ResultState) {
		t.Errorf("a record that the ledger cannot look into: %q, %v\n%s", state, err, encoded)
	}
	event, err := verdict.Event("/p/l/st-01", encoded)
	if err == nil {
		err = schematest.Validate("event", event)
	}
	if err != nil {
		t.Errorf("an event against its schema: %v\n%s", err, event)
	}
}
