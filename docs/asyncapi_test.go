package docs_test

import (
	"strings"
	"testing"

	"gladd/docs"
	"gladd/docs/schemas"
	"gladd/docs/schemas/schematest"
)

// Everything that the document refers to is there, every message has examples,
// and they are right.
func TestAsyncAPI(t *testing.T) {
	channels, err := schematest.Channels()
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for name, channel := range channels {
		used[channel.Schema] = true
		if len(channel.Examples) == 0 {
			t.Errorf("%s: its message has no example", name)
		}
		for _, example := range channel.Examples {
			if err := schematest.Validate(channel.Schema, example); err != nil {
				t.Errorf("%s: %s: %v", name, example, err)
			}
		}
		if found, err := schematest.Find(strings.NewReplacer("{site}", "p", "{line}", "l", "{box}", "b", "{station}", "st-01").Replace(channel.Address)); err != nil || found == nil || found.Name != name {
			t.Errorf("%s: by its address found %+v, %v", name, found, err)
		}
	}
	for _, schema := range schemas.Names() {
		if !used[schema] && schema != "verdict" { // which is a part of event
			t.Errorf("schema %s: no message of the document has it", schema)
		}
	}
	for _, want := range []string{"asyncapi: 3.0.0\n", "protocol: mqtts\n", "lastWill:\n"} {
		if !strings.Contains(string(docs.AsyncAPI), want) {
			t.Errorf("no %q", want)
		}
	}
	// The will is a status, too.
	_, will, _ := strings.Cut(string(docs.AsyncAPI), "message: '")
	will, _, _ = strings.Cut(will, "'")
	if err := schematest.Validate("status", []byte(will)); err != nil {
		t.Errorf("the will, %s: %v", will, err)
	}
}

func TestNoChannel(t *testing.T) {
	for _, topic := range []string{"insp/v1/p/l/st-01/mood", "insp/v1/p/l/st-01/cmd/dance", "insp/v1/p/l/b/status", "insp/v2/p/l/st-01/state", "insp/v1/p/l/_box/state"} {
		if found, err := schematest.Find(topic); err != nil || found != nil {
			t.Errorf("%s: found %+v, %v", topic, found, err)
		}
	}
}
