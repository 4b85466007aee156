package mestest

import (
	"encoding/json"
	"testing"

	"gladd/daemon/internal/verdict/verdicttest"
)

// CheckOrder checks that a station's verdicts came in order and without gaps,
// from sequence 1 to count, each at least once and by its schema, repeated ones
// as they were.
// It returns the records by trigger id.
func CheckOrder(t testing.TB, verdicts []Message, count int) map[string]map[string]any {
	t.Helper()
	next := 1.0
	payloads := map[any]string{}
	byTrigger := map[string]map[string]any{}
	for _, message := range verdicts {
		event := message.JSON(t)
		data, _ := event["data"].(map[string]any)
		if earlier, again := payloads[event["id"]]; again {
			if earlier != message.Payload {
				t.Errorf("a verdict changed when it was repeated:\n%s\n%s", earlier, message.Payload)
			}
			continue
		}
		payloads[event["id"]] = message.Payload
		var parts struct {
			Data json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal([]byte(message.Payload), &parts); err != nil {
			t.Fatal(err)
		}
		if err := verdicttest.Validate(parts.Data); err != nil {
			t.Errorf("a verdict breaks its schema: %v", err)
		}
		if data["sequence"] != next {
			t.Fatalf("want sequence %v, found %v", next, data["sequence"])
		}
		if message.Retained {
			t.Error("a verdict is never retained")
		}
		trigger, _ := data["trigger_id"].(string)
		if byTrigger[trigger] != nil {
			t.Errorf("trigger %s has two verdicts", trigger)
		}
		byTrigger[trigger] = data
		next++
	}
	if int(next-1) != count {
		t.Errorf("want %d verdicts, found %v", count, next-1)
	}
	return byTrigger
}
