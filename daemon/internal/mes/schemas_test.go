package mes_test

import (
	"reflect"
	"slices"
	"testing"

	"gladd/daemon/internal/gpumon"
	"gladd/daemon/internal/mes"
	"gladd/daemon/internal/verdict"
	"gladd/docs/schemas/schematest"
)

// The Go types are what the schemas say, key by key.
func TestTypes(t *testing.T) {
	for schema, test := range map[string]struct {
		message reflect.Type
		command bool
	}{
		"status":        {message: reflect.TypeFor[mes.Status]()},
		"state":         {message: reflect.TypeFor[mes.State]()},
		"recipe":        {message: reflect.TypeFor[mes.Recipe]()},
		"health":        {message: reflect.TypeFor[mes.Health]()},
		"counters":      {message: reflect.TypeFor[mes.Counters]()},
		"acquired":      {message: reflect.TypeFor[mes.Acquired]()},
		"ack":           {message: reflect.TypeFor[mes.Ack](), command: true},
		"verdict":       {message: reflect.TypeFor[verdict.Record]()},
		"reply":         {message: reflect.TypeFor[verdict.Reply]()},
		"command.start": {message: reflect.TypeFor[verdict.Start](), command: true},
	} {
		compared := schematest.Types{Schema: schema, Published: !test.command, Any: map[string]reflect.Type{"health.gpu": reflect.TypeFor[gpumon.Report]()}}
		if found := compared.Compare(test.message); len(found) > 0 {
			t.Errorf("%s: found %q", schema, found)
		}
	}
}

// The comparison finds what differs.
func TestTypesThatDiffer(t *testing.T) {
	type inner struct {
		State string `json:"state"`
	}
	type different struct {
		inner
		State   string  `json:"state"`
		Reason  string  `json:"reason"`
		Since   *string `json:"since"`
		Session string  `json:"session,omitempty"`
		More    int     `json:"more"`
	}
	want := []string{
		"state: Go has state twice; one hides the other",
		"state: the schema has no more",
		"state: session: always there in Go false, in the schema true",
		"state.session: string in Go is string in JSON, the schema has [integer]",
		"state.since: null in Go, but not in the schema",
	}
	if found := (schematest.Types{Schema: "state", Published: true}).Compare(reflect.TypeFor[different]()); !slices.Equal(found, want) {
		t.Errorf("want %q, found %q", want, found)
	}
	if found := (schematest.Types{Schema: "ack"}).Compare(reflect.TypeFor[struct {
		Status string `json:"status"`
	}]()); !slices.Equal(found, []string{"ack: Go has no reason", "ack: Go has no result_id"}) {
		t.Errorf("found %q", found)
	}
}
