package app_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Only the wiring and the command know the configuration; every other package
// takes its own options.
func TestWhoImportsConfigs(t *testing.T) {
	output, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "gladd/...").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	packages := 0
	for line := range strings.Lines(string(output)) {
		importer, imports, _ := strings.Cut(strings.TrimSpace(line), " ")
		packages++
		if importer != "gladd/daemon" && importer != "gladd/daemon/internal/app" && strings.Contains(" "+imports+" ", " gladd/configs ") {
			t.Errorf("%s imports configs", importer)
		}
	}
	if packages < 20 {
		t.Errorf("go list shows %d packages", packages)
	}
}
