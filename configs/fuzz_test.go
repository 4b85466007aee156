package configs

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// FuzzParse checks that whoever made a mistake is told where, and that what is
// accepted keeps to all limits.
func FuzzParse(f *testing.F) {
	f.Add(minimal)
	f.Add("stations: [{trigger: {every: 1s}}]\nrecipes: {a: }\nsite: s\nline: l\n")
	f.Add(minimal + "box: b\nledger: {path: l.db, keep: 2h, images: {keep: none, max_bytes: 1MiB}}\nmqtt: {url: \"mqtts://b\", username: u, password_file: secret, ca_file: secret}\n")
	f.Add(minimal + "mqtt: {embedded: true, listen: \"127.0.0.1:0\"}\nweb: {listen: \"[::1]:8080\", token_file: secret}\ngpu: {monitor: none, interval: 1s}\n")
	f.Add(strings.Replace(minimal, "recipe: r,", "recipe: r, trigger: {kind: folder, every: 20ms}, deadline: 1m, queue: 3, attempts: 2,", 1) + "parts: [{name: h, views: {a: st-01}}]\n")
	f.Add("site: *a\nline: &a l\nstations: [*a, {<<: {name: x}}]\nrecipes: {? [a] : b}\n")
	f.Add("schema: gladd.config/v9\n")
	f.Add("site: \"a\\nb\"\nledger: {keep: \"1\\n2\"}\n")
	for _, file := range []string{"gladd.yaml", "demo.yaml"} {
		shipped, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(shipped))
		f.Add(commented.ReplaceAllString(string(shipped), "$1$2"))
	}
	dir := workplace(f)
	f.Fuzz(func(t *testing.T, text string) {
		config, err := parse("f.yaml", dir, []byte(text))
		if err != nil {
			checkWords(t, err)
			return
		}
		again, err := parse("f.yaml", dir, []byte(text))
		if err != nil || !reflect.DeepEqual(config, again) {
			t.Errorf("read differently the second time, %v:\n%+v\n%+v", err, config, again)
		}
		checkLimits(t, config)
	})
}

// checkWords checks that every problem names the file, in a line of its own.
func checkWords(t *testing.T, err error) {
	t.Helper()
	for line := range strings.Lines(err.Error()) {
		if !strings.HasPrefix(line, "f.yaml:") {
			t.Errorf("a line without the file: %q in\n%v", line, err)
		}
	}
}

// checkLimits checks what the rest of the daemon takes for granted.
func checkLimits(t *testing.T, config *Config) {
	t.Helper()
	names := []string{config.Site, config.Line, config.Box}
	seen := map[string]bool{}
	for _, station := range config.Stations {
		names = append(names, station.Name, station.Recipe)
		if seen[station.Name] {
			t.Errorf("two stations are called %s", station.Name)
		}
		seen[station.Name] = true
		if _, known := config.Recipes[station.Recipe]; !known {
			t.Errorf("no recipe %s", station.Recipe)
		}
		if deadline := time.Duration(station.Deadline); deadline < 10*time.Millisecond || deadline > maxDeadline || station.Queue < 0 || station.Queue > maxQueue || station.Attempts < 0 {
			t.Errorf("found %+v", station)
		}
		if every := time.Duration(station.Trigger.Every); station.Trigger.Kind == TriggerInterval && every < minInterval || every < 0 {
			t.Errorf("found %+v", station)
		}
	}
	paths := []string{config.Ledger.Path, config.Ledger.Images.Dir, config.Engines.CacheDir}
	for recipe, of := range config.Recipes {
		names, paths = append(names, recipe), append(paths, of.Bundle)
	}
	for _, part := range config.Parts {
		names = append(names, part.Name)
		if len(part.Views) == 0 || seen[part.Name] || part.Deadline <= 0 {
			t.Errorf("found %+v", part)
		}
		for view, station := range part.Views {
			if names = append(names, view); !seen[station] {
				t.Errorf("no station %s", station)
			}
		}
	}
	for _, each := range names {
		if !name.MatchString(each) {
			t.Errorf("%q became a name", each)
		}
	}
	for _, path := range paths {
		if path != "" && !filepath.IsAbs(path) {
			t.Errorf("%q is no absolute path", path)
		}
	}
	if len(config.Stations) == 0 || config.Ledger.Path == "" || config.Ledger.Keep < Duration(time.Hour) || config.Ledger.Images.MaxBytes < 1<<20 || config.GPU.Interval < Duration(time.Second) {
		t.Errorf("found %+v", config)
	}
}
