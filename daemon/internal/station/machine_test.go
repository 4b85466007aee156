package station

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the state machine into docs/mes.md")

// The documentation has the state machine as it is in the code.
func TestStatesInDocs(t *testing.T) {
	const path, begin, end = "../../../docs/mes.md", "<!-- states -->\n", "<!-- /states -->"
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(content), begin)
	table, after, ends := strings.Cut(rest, end)
	if !found || !ends {
		t.Fatalf("%s has no place for the states", path)
	}
	if table == StatesTable() {
		return
	}
	if !*update {
		t.Fatalf("%s shows other states than the code; run 'go test ./daemon/internal/station -run TestStatesInDocs -update'", path)
	}
	if err := os.WriteFile(path, []byte(before+begin+StatesTable()+end+after), 0o600); err != nil {
		t.Fatal(err)
	}
}
