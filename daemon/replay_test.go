package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gladd/engines/enginetest"
)

// A recorded part gives the same score to the last bit when it is inspected
// again with the same bundle, backend and number of threads.
func TestReplay(t *testing.T) {
	s := newSite(t, "")
	config := s.config(oneStation)
	p := start(t, config)
	var ids []string
	for range 6 {
		_, body := p.get("POST", "/api/v1/stations/st-01/start?wait=true", `{"part_id": "P-1"}`)
		var event struct{ ID string }
		if err := json.Unmarshal([]byte(body), &event); err != nil || event.ID == "" {
			t.Fatalf("%s: %v", body, err)
		}
		ids = append(ids, event.ID)
	}
	replayed := func(arguments ...string) (int, []map[string]any, string) {
		code, stdout, stderr := gladd(t, append([]string{"replay", "--format", "json"}, arguments...)...)
		return code, lines(t, stdout), stderr
	}
	same := func(found []map[string]any, count int) {
		t.Helper()
		if len(found) != count {
			t.Fatalf("want %d parts, found %v", count, found)
		}
		for i, each := range found {
			if each["identical"] != true || each["score_difference"] != 0.0 || each["problem"] != nil {
				t.Errorf("part %d: %v", i, each)
			}
		}
	}
	// While the daemon runs, and after.
	code, found, stderr := replayed("--config", config, ids[2], ids[4])
	if code != 0 || found[0]["result_id"] != ids[2] || found[1]["result_id"] != ids[4] {
		t.Fatalf("exit code %d: %v %s", code, found, stderr)
	}
	same(found, 2)
	if code := p.end(); code != 0 {
		t.Fatal(p.errors())
	}
	code, found, stderr = replayed("--config", config, "--since", "1h", "--station", "st-01")
	if code != 0 || !strings.Contains(stderr, "identical=6") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	same(found, 6)
	// The verdicts were not all alike.
	evaluations := map[any]bool{}
	for _, each := range found {
		evaluations[each["recorded"].(map[string]any)["evaluation"]] = true
	}
	if !evaluations["OK"] || !evaluations["NotOK"] {
		t.Errorf("found only %v", evaluations)
	}
	code, stdout, _ := gladd(t, "replay", "--config", config, "--since", "1h")
	if code != 0 || strings.Count(stdout, "now the same") != 6 {
		t.Errorf("exit code %d: %s", code, stdout)
	}

	// Newer thresholds of the same model do not touch what was recorded.
	bundle := filepath.Join(s.dir, "bundle")
	if code, _, stderr := gladd(t, "calibrate", "--bundle", bundle, "--good", filepath.Join(s.dir, "pictures"), "--false-reject", "0.5"); code != 0 {
		t.Fatal(stderr)
	}
	code, found, _ = replayed("--config", config, "--since", "1h")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	same(found, 6)

	// Another model, from a ledger without its configuration.
	other := enginetest.Copy(t, enginetest.TinyA(t))
	enginetest.Edit(t, other, "beta_end: 0.012", "beta_end: 0.013")
	code, found, stderr = replayed("--ledger", filepath.Join(s.dir, "ledger.db"), "--bundle", other, "--since", "1h", "--until", "2100-01-01")
	if code != 0 || len(found) != 6 || !strings.Contains(stderr, "identical=0") || !strings.Contains(stderr, "evaluation_changed=6") {
		t.Fatalf("exit code %d: %v %s", code, found, stderr)
	}
	for _, each := range found {
		now := each["replayed"].(map[string]any)
		if each["score_difference"] == 0.0 || now["evaluation"] != "Undefined" || now["score"] == nil {
			t.Errorf("found %v", each)
		}
	}

	// A picture that is gone, and one that was changed.
	pictures, err := filepath.Glob(filepath.Join(s.dir, "images", "st-01", "*", "*.png"))
	if err != nil || len(pictures) != 6 {
		t.Fatalf("%d pictures: %v", len(pictures), err)
	}
	if err := os.Remove(pictures[0]); err != nil {
		t.Fatal(err)
	}
	enginetest.WriteFile(t, pictures[1], enginetest.ReadFile(t, pictures[2]))
	code, found, _ = replayed("--config", config, "--since", "1h")
	if code != 1 || !strings.Contains(found[0]["problem"].(string), "its picture is gone") || !strings.Contains(found[1]["problem"].(string), "not the one that was inspected") {
		t.Errorf("exit code %d: %v", code, found[:2])
	}
	same(found[2:], 4)
}

func TestReplayRefuses(t *testing.T) {
	s := newSite(t, "")
	config := s.config(oneStation)
	p := start(t, config)
	if code := p.end(); code != 0 {
		t.Fatal(p.errors())
	}
	for name, test := range map[string]struct {
		arguments []string
		want      string
	}{
		"nothing":         {[]string{"--config", config}, "which parts? Name results, or a time with --since"},
		"nowhere":         {[]string{"--since", "1h"}, "where are the parts?"},
		"no such result":  {[]string{"--config", config, "01J"}, "no result 01J"},
		"nothing then":    {[]string{"--config", config, "--since", "1h"}, "no results of that station and time"},
		"no time":         {[]string{"--config", config, "--since", "noon"}, `--since: expected a time such as`},
		"no such ledger":  {[]string{"--ledger", "nowhere.db", "--bundle", s.dir, "--since", "1h"}, "ledger nowhere.db: no such file"},
		"not a ledger":    {[]string{"--ledger", config, "--bundle", s.dir, "--since", "1h"}, "file is not a database"},
		"no such station": {[]string{"--config", config, "--since", "1h", "--station", "st-02"}, "no results of that station and time"},
	} {
		code, _, stderr := gladd(t, append([]string{"replay"}, test.arguments...)...)
		if code != 2 || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: want exit code 2 and %q, found %d: %s", name, test.want, code, stderr)
		}
	}
}

// A picture that was not fit for inspection is not fit again.
func TestReplayOfUnfitPictures(t *testing.T) {
	s := newSite(t, "")
	bundle := filepath.Join(s.dir, "bundle")
	if code, _, stderr := gladd(t, "calibrate", "--bundle", bundle, "--good", goodParts(t, 4), "--false-reject", "0.6"); code != 0 {
		t.Fatal(stderr)
	}
	config := s.config(strings.Replace(oneStation, "folder:pictures?loop=true", "virtual:cap?size=64", 1))
	p := start(t, config)
	if _, body := p.get("POST", "/api/v1/stations/st-01/start?wait=true", `{}`); !strings.Contains(body, `"image-health"`) || !strings.Contains(body, `"is_simulated":true`) {
		t.Fatalf("found %s", body)
	}
	if code := p.end(); code != 0 {
		t.Fatal(p.errors())
	}
	code, stdout, stderr := gladd(t, "replay", "--config", config, "--since", "1h")
	if code != 0 || !strings.Contains(stdout, "now the same") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}
