package schemas_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gladd/docs/schemas"
	"gladd/docs/schemas/schematest"
)

var update = flag.Bool("update", false, "write the schema of events anew, from that of verdicts")

func get(t *testing.T, name string) []byte {
	t.Helper()
	content, err := schemas.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func decode(t *testing.T, content []byte) map[string]any {
	t.Helper()
	var document map[string]any
	if err := json.Unmarshal(content, &document); err != nil {
		t.Fatal(err)
	}
	return document
}

func TestNames(t *testing.T) {
	want := []string{
		"ack", "acquired", "command.abort", "command.halt", "command.prepare", "command.reset", "command.start", "command.stop",
		"command.unprepare", "counters", "event", "health", "recipe", "reply", "state", "status", "verdict",
	}
	if found := schemas.Names(); !slices.Equal(found, want) {
		t.Errorf("want %v, found %v", want, found)
	}
	if _, err := schemas.Get("sttae"); err == nil || !strings.HasPrefix(err.Error(), `no schema "sttae": expected one of ack, acquired, command.abort, `) {
		t.Errorf("found %v", err)
	}
}

// Every schema is one: it compiles, refuses unknown keys at every level, and
// says what each key means.
func TestForm(t *testing.T) {
	for _, name := range schemas.Names() {
		document := decode(t, get(t, name))
		if document["$schema"] != "https://json-schema.org/draft/2020-12/schema" || document["$id"] != schemas.ID(name) {
			t.Errorf("%s: found $schema %v, $id %v", name, document["$schema"], document["$id"])
		}
		if document["title"] == nil || document["description"] == nil {
			t.Errorf("%s: want a title and a description", name)
		}
		// A message is refused for what it is, not because the schema is broken.
		if err := schematest.Validate(name, []byte(`[]`)); err == nil || !strings.Contains(err.Error(), "want object") {
			t.Errorf("%s: found %v", name, err)
		}
		checkObjects(t, name, document)
	}
}

// checkObjects looks at every object of a schema. Conditions only narrow what
// is described elsewhere.
func checkObjects(t *testing.T, at string, node map[string]any) {
	t.Helper()
	properties, _ := node["properties"].(map[string]any)
	if properties != nil && node["additionalProperties"] != false {
		t.Errorf("%s: want additionalProperties false", at)
	}
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		property, _ := properties[key].(map[string]any)
		if text, _ := property["description"].(string); text == "" {
			t.Errorf("%s.%s: want a description", at, key)
		}
		checkObjects(t, at+"."+key, property)
	}
	if items, is := node["items"].(map[string]any); is {
		checkObjects(t, at+"[]", items)
	}
	if defs, is := node["$defs"].(map[string]any); is {
		for name, def := range defs {
			checkObjects(t, at+"#"+name, def.(map[string]any))
		}
	}
}

// Each file stands alone, so that every tool can read it; what several of them
// define by one name is the same in all, and nothing is defined in vain.
func TestDefinitions(t *testing.T) {
	first := map[string]any{}
	for _, name := range schemas.Names() {
		content := get(t, name)
		document := decode(t, content)
		defs, _ := document["$defs"].(map[string]any)
		for def, meaning := range defs {
			if !bytes.Contains(content, []byte(`"$ref": "#/$defs/`+def+`"`)) {
				t.Errorf("%s: %s is not used", name, def)
			}
			if first[def] == nil {
				first[def] = meaning
			}
			if !reflect.DeepEqual(first[def], meaning) {
				t.Errorf("%s: %s differs from that of another schema: %v, %v", name, def, meaning, first[def])
			}
		}
		for _, key := range []string{"command_id", "expires_at"} {
			properties := document["properties"].(map[string]any)
			if !strings.HasPrefix(name, "command.") {
				continue
			}
			if first[key] == nil {
				first[key] = properties[key]
			}
			if !reflect.DeepEqual(first[key], properties[key]) || properties[key] == nil {
				t.Errorf("%s: %s differs from that of another command", name, key)
			}
		}
	}
}

// The schema of events is that of verdicts with the attributes of CloudEvents
// around it.
func TestEventIsMadeFromVerdict(t *testing.T) {
	verdict := string(get(t, "verdict"))
	_, body, found := strings.Cut(verdict, `"$id": "urn:gladd:schema:verdict:v1",`+"\n")
	body, defs, more := strings.Cut(body, ",\n  \"$defs\": {")
	if !found || !more {
		t.Fatal("the schema of verdicts begins with its $id and ends with $defs")
	}
	want := eventHead + "    \"data\": {\n" + strings.ReplaceAll("    "+body, "\n", "\n    ") + "\n    }\n  },\n  \"$defs\": {" + defs
	if *update {
		if err := os.WriteFile(schemas.File("event"), []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(get(t, "event")) != want {
		t.Error("the schema of events is not that of verdicts; run 'go test ./docs/schemas -update'")
	}
}

// eventHead has the rules of CloudEvents 1.0.2, sections 3.1 and 3.2, as far as
// gladd uses them (github.com/cloudevents/spec, cloudevents/spec.md).
const eventHead = `{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "$id": "urn:gladd:schema:event:v1",
  "title": "Verdict, as it is published",
  "description": "Topic insp/v1/SITE/LINE/STATION/verdict, not retained, at least once: an event of CloudEvents 1.0 in structured JSON, its data the verdict. A part of several views has a topic and a source of its own, with the part's name in place of the station's. HTTP gives the same with start?wait=true.",
  "type": "object",
  "additionalProperties": false,
  "required": ["specversion", "id", "source", "type", "time", "datacontenttype", "dataschema", "data"],
  "properties": {
    "specversion": {"const": "1.0", "description": "Version of CloudEvents."},
    "id": {"$ref": "#/$defs/ulid", "description": "The verdict's result_id. Two events of one id are the same event: take one of them."},
    "source": {
      "type": "string",
      "format": "uri-reference",
      "pattern": "^(/[A-Za-z0-9][A-Za-z0-9_-]{0,63}){3}$",
      "description": "Where the verdict comes from: /SITE/LINE/STATION, or the part's name in place of the station's."
    },
    "type": {"const": "io.gladd.verdict.v1", "description": "What happened: a verdict, in this version of the contract."},
    "subject": {
      "type": "string",
      "minLength": 1,
      "pattern": "^[^\\x00-\\x1f\\x7f-\\x9f]+$",
      "description": "The part's id; absent without one."
    },
    "time": {"$ref": "#/$defs/time", "description": "When the record was made, times.finished of the data. RFC 3339, UTC."},
    "datacontenttype": {"const": "application/json", "description": "What the data is."},
    "dataschema": {"const": "urn:gladd:schema:verdict:v1", "description": "The schema of the data."},
`
