package verdict_test

import (
	"strings"
	"testing"

	"gladd/daemon/internal/verdict"
	"gladd/docs/schemas/schematest"
)

// What is expected of a command.
const (
	good  = "accepted by both"
	bad   = "refused by both"
	words = "refused for what the schema says in words only"
)

// The schemas of commands allow what the parser accepts, and what they refuse it
// refuses.
func TestCommandSchemas(t *testing.T) {
	long := strings.Repeat("x", 256)
	for name, test := range map[string]struct{ verb, payload, want string }{
		"nothing":                  {"start", `{}`, good},
		"a part":                   {"start", `{"part_id":"P-0001"}`, good},
		"all of it":                {"start", `{"part_id":"P-1","command_id":"c-1","expires_at":"2030-01-01T00:00:00Z","measurement_id":"m-1","recipe":"r","purpose":"msa","view":"front","context":{"a":[1,null]}}`, good},
		"null is nothing":          {"start", `{"part_id":null,"command_id":null,"expires_at":null,"measurement_id":null,"recipe":null,"purpose":null,"view":null,"context":null}`, good},
		"spaces around":            {"start", " \n{ \"part_id\" : \"P\" }\n", good},
		"umlauts":                  {"start", `{"part_id":"Gehäuse-7 µ €"}`, good},
		"escaped":                  {"start", `{"part_id":"\u0047"}`, good},
		"half a pair":              {"start", `{"part_id":"\ud800"}`, good},
		"as long as can be":        {"start", `{"part_id":"` + long + `"}`, good},
		"longer than can be":       {"start", `{"part_id":"` + long + `x"}`, bad},
		"too many bytes":           {"start", `{"part_id":"` + strings.Repeat("ä", 129) + `"}`, words},
		"empty part id":            {"start", `{"part_id":""}`, bad},
		"empty command id":         {"start", `{"command_id":""}`, bad},
		"empty view":               {"start", `{"view":""}`, bad},
		"a number as part id":      {"start", `{"part_id":7}`, bad},
		"a list as recipe":         {"start", `{"recipe":["r"]}`, bad},
		"a line feed":              {"start", `{"part_id":"a\nb"}`, bad},
		"a NUL":                    {"start", `{"measurement_id":"\u0000"}`, bad},
		"a DEL":                    {"start", `{"command_id":"a\u007f"}`, bad},
		"a C1 control character":   {"start", `{"part_id":"a\u0085b"}`, bad},
		"a noncharacter":           {"start", `{"part_id":"a\uffff"}`, words},
		"every purpose":            {"start", `{"purpose":"reinspection"}`, good},
		"unknown purpose":          {"start", `{"purpose":"fun"}`, bad},
		"empty purpose":            {"start", `{"purpose":""}`, bad},
		"a purpose of another":     {"start", `{"purpose":"Production"}`, bad},
		"context that is text":     {"start", `{"context":"a"}`, bad},
		"context that is a list":   {"start", `{"context":[]}`, bad},
		"empty context":            {"start", `{"context":{}}`, good},
		"large context":            {"start", `{"context":{"a":"` + strings.Repeat("x", 2040) + `"}}`, good},
		"larger context":           {"start", `{"context":{"a":"` + strings.Repeat("x", 2041) + `"}}`, words},
		"spaces in a context":      {"start", `{"context":{"a":` + strings.Repeat(" ", 4000) + `1}}`, good},
		"a fraction of a second":   {"start", `{"expires_at":"2030-01-01T00:00:00.123456789Z"}`, good},
		"another zone":             {"start", `{"expires_at":"2030-01-01T00:00:00+05:30"}`, good},
		"no zone":                  {"start", `{"expires_at":"2030-01-01T00:00:00"}`, bad},
		"a day":                    {"start", `{"expires_at":"2030-01-01"}`, bad},
		"no such day":              {"start", `{"expires_at":"2030-02-30T00:00:00Z"}`, bad},
		"small letters":            {"start", `{"expires_at":"2030-01-01t00:00:00z"}`, bad},
		"a comma":                  {"start", `{"expires_at":"2030-01-01T00:00:00,5Z"}`, bad},
		"an hour of one digit":     {"start", `{"expires_at":"2030-01-01T0:00:00Z"}`, bad},
		"a key in capitals":        {"start", `{"Part_ID":"P-1"}`, bad},
		"twice the same key":       {"start", `{"part_id":"P-1","part_id":"P-2"}`, words},
		"Unix seconds":             {"start", `{"expires_at":1893456000}`, bad},
		"a misspelt key":           {"start", `{"expire_at":"2030-01-01T00:00:00Z"}`, bad},
		"a key of another verb":    {"stop", `{"recipe":"r"}`, bad},
		"a list":                   {"start", `["a"]`, bad},
		"text":                     {"start", `"a"`, bad},
		"null":                     {"start", `null`, bad},
		"not JSON":                 {"start", `{"part_id":`, bad},
		"empty":                    {"start", ``, bad},
		"two objects":              {"start", `{} {}`, bad},
		"other fields of a part":   {"start", `{"parent_id":"a","position":"b","product_id":"c","order_id":"d","carrier_id":"e"}`, good},
		"an empty carrier":         {"start", `{"carrier_id":""}`, bad},
		"continuous":               {"start", `{"continuous":true,"command_id":"c-1","recipe":"r"}`, good},
		"not continuous":           {"start", `{"continuous":false,"part_id":"P-1"}`, good},
		"continuous with a part":   {"start", `{"continuous":true,"part_id":"P-1"}`, bad},
		"continuous with an order": {"start", `{"continuous":true,"order_id":"O-1"}`, bad},
		"continuous, null":         {"start", `{"continuous":true,"part_id":null}`, good},
		"null beside continuous":   {"start", `{"continuous":true,"context":null}`, good},
		"continuous is a word":     {"start", `{"continuous":"yes"}`, bad},
		"a recipe":                 {"prepare", `{"recipe":"r","command_id":"c-1","expires_at":"2030-01-01T00:00:00Z"}`, good},
		"no recipe":                {"prepare", `{"command_id":"c-1"}`, bad},
		"a recipe that is null":    {"prepare", `{"recipe":null}`, bad},
		"a recipe without a name":  {"prepare", `{"recipe":""}`, bad},
		"a part to prepare":        {"prepare", `{"recipe":"r","part_id":"P-1"}`, bad},
		"unprepare":                {"unprepare", `{"command_id":"c-1"}`, good},
		"stop":                     {"stop", `{}`, good},
		"abort":                    {"abort", `{"expires_at":"2030-01-01T00:00:00Z"}`, good},
		"halt":                     {"halt", `{"command_id":null}`, good},
		"a cleared message":        {"halt", ``, bad},
		"reset":                    {"reset", `{"command_id":"c-1"}`, good},
		"reset of something":       {"reset", `{"station":"st-01"}`, bad},
	} {
		if err := schematest.Validate("command."+test.verb, []byte(test.payload)); (err == nil) != (test.want != bad) {
			t.Errorf("%s: want it %s, the schema says %v", name, test.want, err)
		}
		if _, err := verdict.ParseCommand(verdict.Verb(test.verb), []byte(test.payload)); (err == nil) != (test.want == good) {
			t.Errorf("%s: want it %s, the parser says %v", name, test.want, err)
		}
	}
}

func TestCommandID(t *testing.T) {
	for payload, want := range map[string]string{
		`{"command_id":"c-1","part_id":7}`: "c-1", `{"command_id":7}`: "", `{}`: "", ``: "", `["c"]`: "", `{"command_id":"c-1"`: "", `{"command_id":""}`: "", `{"command_id":"a\nb"}`: "",
		`{"command_id":"` + strings.Repeat("x", 256) + `"}`: strings.Repeat("x", 256), `{"command_id":"` + strings.Repeat("x", 257) + `"}`: "",
	} {
		found := ""
		if id := verdict.CommandID([]byte(payload)); id != nil && *id == "" {
			t.Errorf("%s: no reply can name an empty id", payload)
		}
		if id := verdict.CommandID([]byte(payload)); id != nil {
			found = *id
		}
		if found != want {
			t.Errorf("%s: want %q, found %q", payload, want, found)
		}
	}
}
