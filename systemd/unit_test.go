// Package systemd holds the units that ship; its tests ask systemd about them.
package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const unit = "gladd.service"

// analyze runs systemd-analyze on the unit, in a copy whose program exists.
func analyze(t *testing.T, arguments ...string) (output string, err error) {
	t.Helper()
	content, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(content), "/usr/local/bin/gladd", program)
	// What it documents exists once it is installed.
	text = strings.ReplaceAll(text, "file:///usr/local/share/doc/gladd/run.md", "file://"+program)
	copied := filepath.Join(t.TempDir(), unit)
	if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := exec.Command("systemd-analyze", append(arguments, copied)...).CombinedOutput()
	return string(found), err
}

func TestVerify(t *testing.T) {
	if output, err := analyze(t, "verify", "--man=no"); err != nil || output != "" {
		t.Errorf("want not a word, found %v:\n%s", err, output)
	}
}

func TestSecurity(t *testing.T) {
	output, err := analyze(t, "security", "--no-pager", "--offline=true", "--threshold=25")
	level := regexp.MustCompile(`Overall exposure level for .*: ([0-9.]+)`).FindStringSubmatch(output)
	if err != nil || level == nil {
		t.Fatalf("want an exposure of at most 2.5: %v:\n%s", err, output)
	}
	t.Logf("exposure %s", level[1])
}
