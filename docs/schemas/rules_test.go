package schemas_test

import (
	"encoding/json"
	"testing"

	"gladd/docs/schemas/schematest"
)

// part is the verdict on a part of two views.
const part = `{
	"result_id": "01M86FKZ870NWRCTM93FTVMQAF", "trigger_id": "01M86FKYFX5TA9BBB0EAF795SV", "command_id": null,
	"ledger_id": "01M86FKVNS40CRTZE7AE0G33PN", "sequence": 1, "kind": "part", "view": null, "views_expected": 2,
	"source_result_ids": ["01M86FKZ870NWRCTM93FTVMQAA", "01M86FKZ870NWRCTM93FTVMQAB"], "is_partial": false,
	"part": {"id": "P-1", "id_source": "trigger", "parent_id": null, "position": null, "product_id": null, "order_id": null, "carrier_id": null},
	"measurement_id": null, "attempt": 1, "previous_result_id": null, "purpose": "production", "is_simulated": false,
	"evaluation": "OK", "result_state": "completed", "reason": null, "anomaly_score": null, "image_threshold": null, "recipe": null,
	"bundle": null, "calibration_id": null, "method": null, "camera": null, "image": null, "regions": null, "context": {},
	"times": {"triggered": "2026-11-24T09:53:58.781Z", "captured": null, "finished": "2026-11-24T09:53:59.559Z"},
	"clock": {"synchronized": true, "offset_ms": 0.1}, "latency_ms": 777.9, "diagnostics": null
}`

const (
	state    = `{"state": "Ready", "reason": null, "since": "2026-11-24T09:53:58.781Z", "session": 1}`
	recipe   = `{"name": "screw", "version": "1", "digest": "ab", "bundle": {"name": "screw", "version": "1", "digest": "cd"}, "calibration_id": null, "session": 1}`
	accepted = `{"command_id": "c-1", "trigger_id": "01M86FKYFX5TA9BBB0EAF795SV", "accepted": true, "reason": null}`
	refused  = `{"command_id": null, "trigger_id": null, "accepted": false, "reason": {"code": "model", "detail": "unet.onnx is damaged"}}`
)

// What belongs together stands together; of each rule, what breaks it.
func TestRules(t *testing.T) {
	for name, test := range map[string]struct {
		schema, message, changes string
		valid                    bool
	}{
		"a part":                              {"verdict", part, `{}`, true},
		"a part that lacks a view":            {"verdict", part, `{"is_partial": true, "evaluation": "Undefined", "result_state": "failed", "reason": {"code": "deadline", "detail": "back did not come"}}`, true},
		"OK without a view":                   {"verdict", part, `{"is_partial": true}`, false},
		"OK of no views":                      {"verdict", part, `{"source_result_ids": []}`, false},
		"a part without its views":            {"verdict", part, `{"source_result_ids": null}`, false},
		"a part without their number":         {"verdict", part, `{"views_expected": null}`, false},
		"a part without an id":                {"verdict", part, `{"part": {"id": null, "id_source": null, "parent_id": null, "position": null, "product_id": null, "order_id": null, "carrier_id": null}}`, false},
		"a part with a score":                 {"verdict", part, `{"anomaly_score": 0.5}`, false},
		"a part with a recipe":                {"verdict", part, `{"recipe": {"name": "screw", "version": "1", "digest": "ab"}}`, false},
		"a part with a context":               {"verdict", part, `{"context": {"shift": 2}}`, false},
		"a part with a command":               {"verdict", part, `{"command_id": "c-1"}`, false},
		"a view with nothing":                 {"verdict", part, `{"kind": "view", "evaluation": "Undefined", "result_state": "failed", "reason": {"code": "camera", "detail": ""}}`, false},
		"NotOK for a fault":                   {"verdict", part, `{"evaluation": "NotOK", "reason": {"code": "camera", "detail": ""}}`, false},
		"NotDecidable for an anomaly":         {"verdict", part, `{"evaluation": "NotDecidable", "reason": {"code": "anomaly", "detail": ""}}`, false},
		"Undefined for an anomaly":            {"verdict", part, `{"evaluation": "Undefined", "reason": {"code": "anomaly", "detail": ""}}`, false},
		"unknown key":                         {"verdict", part, `{"colour": "red"}`, false},
		"a time without milliseconds":         {"verdict", part, `{"times": {"triggered": "2026-11-24T09:53:58Z", "captured": null, "finished": "2026-11-24T09:53:59.559Z"}}`, false},
		"ready":                               {"state", state, `{}`, true},
		"an error":                            {"state", state, `{"state": "Error", "reason": "camera: unplugged"}`, true},
		"an error without a reason":           {"state", state, `{"state": "Error"}`, false},
		"an empty reason":                     {"state", state, `{"reason": ""}`, false},
		"no state of OPC 40100-1":             {"state", state, `{"state": "Busy"}`, false},
		"no session":                          {"state", state, `{"session": 0}`, false},
		"a recipe":                            {"recipe", recipe, `{}`, true},
		"no recipe":                           {"recipe", recipe, `{"name": null, "version": null, "digest": null, "bundle": null}`, true},
		"half a recipe":                       {"recipe", recipe, `{"bundle": null}`, false},
		"a bundle of no recipe":               {"recipe", recipe, `{"name": null, "version": null, "digest": null}`, false},
		"accepted":                            {"reply", accepted, `{}`, true},
		"accepted, and no start":              {"reply", accepted, `{"trigger_id": null}`, true},
		"accepted with a reason":              {"reply", accepted, `{"reason": {"code": "busy", "detail": ""}}`, false},
		"refused":                             {"reply", refused, `{}`, true},
		"refused without a reason":            {"reply", refused, `{"reason": null}`, false},
		"refused with a trigger":              {"reply", refused, `{"trigger_id": "01M86FKYFX5TA9BBB0EAF795SV"}`, false},
		"refused for an unknown reason":       {"reply", refused, `{"reason": {"code": "mood", "detail": ""}}`, false},
		"an ack":                              {"ack", `{"result_id": "01M86FKZ870NWRCTM93FTVMQAF", "status": "accepted"}`, `{}`, true},
		"an ack with no reason":               {"ack", `{"result_id": "01M86FKZ870NWRCTM93FTVMQAF", "status": "accepted"}`, `{"reason": null}`, true},
		"an ack of something else":            {"ack", `{"result_id": "P-1", "status": "accepted"}`, `{}`, false},
		"an ack that says neither yes nor no": {"ack", `{"result_id": "01M86FKZ870NWRCTM93FTVMQAF", "status": "seen"}`, `{}`, false},
	} {
		var message, changes map[string]any
		if err := json.Unmarshal([]byte(test.message), &message); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(test.changes), &changes); err != nil {
			t.Fatal(err)
		}
		for key, value := range changes {
			message[key] = value
		}
		encoded, err := json.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		if err := schematest.Validate(test.schema, encoded); (err == nil) != test.valid {
			t.Errorf("%s: want valid %t, found %v", name, test.valid, err)
		}
	}
}
