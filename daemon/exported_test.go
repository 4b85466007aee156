package main

import (
	"encoding/json"
	"math"
	"path/filepath"
	"testing"

	"gladd/engines/enginetest"
)

// A bundle that gladd-train exported gives what torch gave on the same networks.
func TestExportedBundle(t *testing.T) {
	dir := enginetest.Path(t, "testdata/exported")
	var expected map[string]struct {
		Score          float64   `json:"score"`
		SwitchTimestep int       `json:"switch_timestep"`
		Gate           []float64 `json:"gate"`
	}
	if err := json.Unmarshal(enginetest.ReadFile(t, filepath.Join(dir, "expected.json")), &expected); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := gladd(t, "inspect", "--bundle", filepath.Join(dir, "bundle"), "--noise", filepath.Join(dir, "noise"), filepath.Join(dir, "images"))
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	found := lines(t, stdout)
	if len(found) != len(expected) || len(found) == 0 {
		t.Fatalf("want %d lines, found %d", len(expected), len(found))
	}
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-4 }
	for _, line := range found {
		name := filepath.Base(line["image"].(string))
		want := expected[name]
		if score := line["score"].(float64); !near(score, want.Score) || int(line["switch_timestep"].(float64)) != want.SwitchTimestep {
			t.Errorf("%s: want %+v, found %v", name, want, line)
		}
		gate := line["gate"].([]any)
		if len(gate) != len(want.Gate) {
			t.Fatalf("%s: want %d comparisons, found %d", name, len(want.Gate), len(gate))
		}
		for i, score := range want.Gate {
			if value := gate[i].(map[string]any)["score"].(float64); !near(value, score) {
				t.Errorf("%s: comparison %d: want %v, found %v", name, i, score, value)
			}
		}
	}
}
