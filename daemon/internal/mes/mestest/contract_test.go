package mestest

import (
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"gladd/daemon/internal/verdict"
)

const (
	topic = "insp/v1/p/l/st-01/"
	ready = `{"state":"Ready","reason":null,"since":"2026-11-24T09:53:58.781Z","session":1}`
)

func TestContract(t *testing.T) {
	for name, test := range map[string]struct {
		message Message
		want    string // empty: nothing is wrong
	}{
		"a state":                {Message{Topic: topic + "state", Payload: ready}, ""},
		"a retained state":       {Message{Topic: topic + "state", Payload: ready, Retained: true}, ""},
		"a state without a key":  {Message{Topic: topic + "state", Payload: `{"state":"Ready"}`}, "missing properties 'reason', 'since', 'session'"},
		"nothing":                {Message{Topic: topic + "state"}, "not JSON"},
		"an unknown topic":       {Message{Topic: topic + "mood", Payload: `{}`}, "no channel"},
		"a wrong command":        {Message{Topic: topic + "cmd/start", Payload: `{`}, ""},
		"an unknown command":     {Message{Topic: topic + "cmd/dance", Payload: `{`}, ""},
		"a wrong ack":            {Message{Topic: topic + "ack", Payload: `{`}, ""},
		"a mark":                 {Message{Topic: "marker", Payload: `{`}, ""},
		"a wrong reply":          {Message{Topic: topic + "cmd/start/reply", Payload: `{}`}, "missing properties"},
		"to an unknown command":  {Message{Topic: topic + "cmd/dance/reply", Payload: `{}`}, "missing properties"},
		"a retained reply":       {Message{Topic: topic + "cmd/start/reply", Payload: `{}`, Retained: true}, "never retained"},
		"a verdict of elsewhere": {Message{Topic: topic + "verdict", Payload: strings.Replace(event(t), "/p/l/st-01", "/p/l/st-02", 1)}, "topic, source: want the same"},
		"another subject":        {Message{Topic: topic + "verdict", Payload: strings.Replace(event(t), `"subject":"P-1",`, "", 1)}, `subject, data.part.id: want the same, found "" and "P-1"`},
		"a verdict":              {Message{Topic: topic + "verdict", Payload: event(t)}, ""},
	} {
		var c contract
		err := c.check(test.message)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: want %q, found %v", name, test.want, err)
		}
	}
}

// States are looked at within a session, and from the first that was not
// retained.
func TestTransitions(t *testing.T) {
	const halted = `{"state":"Halted","reason":"halt","since":"2026-11-24T09:53:58.781Z","session":1}`
	var c contract
	for i, test := range []struct {
		message Message
		want    string
	}{
		{Message{Payload: ready, Retained: true}, ""},
		{Message{Payload: ready}, ""},
		{Message{Payload: halted}, ""},
		{Message{Payload: ready}, "may not go from Halted to Ready"},
		{Message{Payload: halted}, ""},
		{Message{Payload: strings.Replace(ready, `"session":1`, `"session":2`, 1)}, ""},
		{Message{Payload: halted, Retained: true}, ""},
		{Message{Payload: ready, Retained: true}, ""},
		{Message{Topic: "insp/v1/p/l/st-02/state", Payload: halted}, ""},
	} {
		if test.message.Topic == "" {
			test.message.Topic = topic + "state"
		}
		err := c.check(test.message)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%d: want %q, found %v", i, test.want, err)
		}
	}
}

func BenchmarkContract(b *testing.B) {
	message := Message{Topic: topic + "verdict", Payload: event(b)}
	var c contract
	for b.Loop() {
		if err := c.check(message); err != nil {
			b.Fatal(err)
		}
	}
}

// event is a verdict as it is published.
func event(t testing.TB) string {
	t.Helper()
	at := verdict.Time{Time: time.Date(2026, 11, 24, 9, 53, 58, 0, time.UTC)}
	id, source := "P-1", "trigger"
	record, err := verdict.JSON(verdict.Record{
		ResultID: ulid.Make().String(), TriggerID: ulid.Make().String(), LedgerID: ulid.Make().String(), Sequence: 1, Kind: "view", Attempt: 1,
		Part: verdict.Part{ID: &id, IDSource: &source}, Purpose: verdict.Production, Evaluation: verdict.Undefined, ResultState: verdict.Failed,
		Reason: &verdict.Reason{Code: verdict.ReasonCamera, Detail: "unplugged"}, Recipe: verdict.Recipe{Name: "r"}, Bundle: verdict.Bundle{Name: "b"},
		Method: verdict.Method{Mode: "exact"}, Camera: verdict.Camera{Name: "c"}, Context: []byte("{}"), Times: verdict.Times{Triggered: at, Finished: at},
	})
	if err != nil {
		t.Fatal(err)
	}
	made, err := verdict.Event("/p/l/st-01", record)
	if err != nil {
		t.Fatal(err)
	}
	return string(made)
}
