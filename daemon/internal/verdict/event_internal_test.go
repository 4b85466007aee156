package verdict

import (
	"reflect"
	"testing"

	"gladd/docs/schemas"
	"gladd/docs/schemas/schematest"
)

func TestEventType(t *testing.T) {
	if found := (schematest.Types{Schema: "event", Published: true}).Compare(reflect.TypeFor[event]()); len(found) > 0 {
		t.Errorf("found %q", found)
	}
	if DataSchema != schemas.ID("verdict") {
		t.Errorf("want the data's schema to be that of verdicts, found %s", DataSchema)
	}
}
