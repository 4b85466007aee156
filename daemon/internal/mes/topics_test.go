package mes

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"gladd/daemon/internal/verdict"
	"gladd/docs/schemas/schematest"
)

// The topics that the code makes are the addresses of docs/asyncapi.yaml. That
// all of them are used is tested with a whole daemon.
func TestTopics(t *testing.T) {
	box := topics{site: "{site}", line: "{line}", box: "{box}"}
	made := map[string]bool{box.status(): true, ofSource("/{site}/{line}/{station}"): true}
	for _, leaf := range []string{"state", "recipe", "health", "counters", "acquired", "ack"} {
		made[box.station("{station}", leaf)] = true
	}
	for _, verb := range verdict.Verbs {
		made[box.station("{station}", "cmd/"+string(verb))] = true
		made[box.station("{station}", "cmd/"+string(verb)+"/reply")] = true
	}
	channels, err := schematest.Channels()
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{}
	for name, channel := range channels {
		described[channel.Address] = true
		if command := strings.HasPrefix(channel.Schema, "command."); command && channel.Schema != "command."+verbOf(channel.Address) {
			t.Errorf("%s: found schema %s at %s", name, channel.Schema, channel.Address)
		}
		if command := strings.Contains(channel.Address, "/cmd/") && !channel.Sent; command != strings.HasPrefix(channel.Schema, "command.") {
			t.Errorf("%s: found schema %s at %s", name, channel.Schema, channel.Address)
		}
	}
	if !maps.Equal(made, described) {
		t.Errorf("the code makes   %q\nthe document has %q", slices.Sorted(maps.Keys(made)), slices.Sorted(maps.Keys(described)))
	}
	if filter := box.commands("{station}"); filter != "insp/v1/{site}/{line}/{station}/cmd/+" {
		t.Errorf("commands are heard by %s", filter)
	}
}
