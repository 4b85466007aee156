package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gladd/engines"
	"gladd/engines/enginetest"
	"gladd/internal/npy"
)

// goodParts writes pictures of good plates.
func goodParts(t *testing.T, count int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "good")
	code, _, stderr := gladd(t, "line", "--out", dir, "--train", itoa(count), "--good", "0", "--defective", "0", "--size", "64")
	if code != 0 {
		t.Fatal(stderr)
	}
	return filepath.Join(dir, "train", "good")
}

func TestCalibrate(t *testing.T) {
	good := goodParts(t, 12)
	bad := filepath.Join(labelled(t, 0, 9), "test")
	copyFile(t, filepath.Join(good, "0000.png"), filepath.Join(good, "copy.png"))
	bundle := enginetest.Copy(t, enginetest.TinyA(t))
	calibrate(t, bundle)
	path := filepath.Join(bundle, engines.CalibrationsFile)
	earlier := enginetest.Load(t, bundle).Calibrations[0]
	// 11 parts meet 30% at 98%; the copy is no part of its own.
	arguments := []string{"calibrate", "--bundle", bundle, "--good", good, "--bad", bad, "--false-reject", "0.3", "--confidence", "0.98", "--guard-band", "0.01"}

	before := enginetest.ReadFile(t, path)
	code, stdout, stderr := gladd(t, append(arguments, "--dry-run")...)
	if code != 0 || !strings.Contains(stdout, "nothing was written") || string(enginetest.ReadFile(t, path)) != string(before) {
		t.Fatalf("dry run: exit code %d: %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = gladd(t, arguments...)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, want := range []string{"rank 1 of 12 good parts", "as in bundle.yaml", "at most 30 % false rejects at 98 % confidence", "pictures that show the same as another: 1", "of 9 would escape", "< threshold"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("want %q in\n%s", want, stdout)
		}
	}
	calibrations := enginetest.Load(t, bundle).Calibrations
	if len(calibrations) != 2 || calibrations[0].ID != earlier.ID || calibrations[0].ImageThreshold != earlier.ImageThreshold {
		t.Fatalf("found %+v", calibrations)
	}
	entry := calibrations[1]
	if entry.GateThreshold != 0.074 || entry.GuardBand != 0.01 || entry.LearnedFrom["good"] != 12 || entry.Promise["rank"] != 1 ||
		entry.GateCurves.Parts != 12 || len(entry.GateCurves.Timesteps) < 2 || entry.SelfTest == nil || entry.ImageHealth == nil {
		t.Errorf("found %+v", entry)
	}
	svg := string(enginetest.ReadFile(t, filepath.Join(bundle, "calibration-"+entry.ID+".svg")))
	if !strings.HasPrefix(svg, "<svg") || !strings.Contains(svg, "threshold") {
		t.Errorf("histogram: %.200s", svg)
	}

	// The threshold is the highest score that 'gladd inspect' finds among the
	// good parts, with the gate threshold of the entry.
	_, lined, _ := gladd(t, "inspect", "--bundle", bundle, "--threads", "1", good)
	highest, undecided := 0.0, 0
	for _, line := range lines(t, lined) {
		highest = max(highest, line["score"].(float64))
		switch line["evaluation"] {
		case "OK":
		case "NotDecidable":
			undecided++
		default:
			t.Errorf("a good part reads %v", line["evaluation"])
		}
		if line["calibration_id"] != entry.ID {
			t.Errorf("calibration %v is in use", line["calibration_id"])
		}
		if regions := line["regions"].([]any); len(regions) != 0 {
			t.Errorf("a good part has regions: %v", regions)
		}
	}
	if difference := highest - entry.ImageThreshold; difference > 1e-5 || difference < -1e-5 || undecided == 0 {
		t.Errorf("want threshold %v, found %v; %d are undecided", highest, entry.ImageThreshold, undecided)
	}

	// A picture of nothing is not fit: no score, not a low one.
	dark := filepath.Join(t.TempDir(), "dark.png")
	copyFile(t, enginetest.Path(t, "capture/testdata/formats/gray.png"), dark)
	_, lined, _ = gladd(t, "inspect", "--bundle", bundle, dark)
	if result := lines(t, lined)[0]; result["evaluation"] != "Undefined" || result["reason"].(map[string]any)["code"] != "image-health" {
		t.Errorf("found %v", result)
	}
}

// The gate threshold is learned from parts of its own.
func TestCalibrateLearnsTheGate(t *testing.T) {
	good := goodParts(t, 45)
	bundle := enginetest.Copy(t, enginetest.TinyA(t))
	code, stdout, stderr := gladd(t, "calibrate", "--bundle", bundle, "--good", good, "--false-reject", "0.3", "--confidence", "0.98")
	if code != 0 || !strings.Contains(stdout, "learned from 30 other good parts") || !strings.Contains(stdout, "of 15 good parts") {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	entry := enginetest.Load(t, bundle).Calibrations[0]
	if entry.GateThreshold == 0.074 || entry.LearnedFrom["gate_good"] != 30 || entry.LearnedFrom["good"] != 15 {
		t.Errorf("found %+v", entry)
	}
	// It lies among the good parts' highest gate scores: few switch by it.
	_, lined, _ := gladd(t, "inspect", "--bundle", bundle, "--threads", "1", good)
	switched := 0
	for _, line := range lines(t, lined) {
		if line["switch_reason"] == "threshold" {
			switched++
		}
	}
	if switched > 15 {
		t.Errorf("%d of 45 good parts switch by the threshold", switched)
	}
}

// A bundle may ask for maps that are standardised per location.
func TestCalibrateStandardises(t *testing.T) {
	good := goodParts(t, 45)
	bundle := enginetest.Copy(t, enginetest.TinyA(t))
	manifest := filepath.Join(bundle, engines.ManifestFile)
	plain := string(enginetest.ReadFile(t, manifest))
	asking := strings.Replace(plain, "object_mask:", "standardise: location\n  object_mask:", 1)
	enginetest.WriteFile(t, manifest, []byte(asking))
	arguments := []string{"calibrate", "--bundle", bundle, "--good", good, "--false-reject", "0.3", "--confidence", "0.98"}
	code, stdout, stderr := gladd(t, arguments...)
	if code != 0 || !strings.Contains(stdout, "standardised per location, by 30 other good parts") || !strings.Contains(stdout, "of 15 good parts") {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	loaded := enginetest.Load(t, bundle)
	entry := loaded.Calibrations[0]
	mean, std, err := loaded.Location(&entry)
	if err != nil {
		t.Fatal(err)
	}
	if entry.LearnedFrom["location_good"] != 30 {
		t.Errorf("found %+v", entry)
	}

	// Its maps are the plain ones, standardised.
	part := filepath.Join(good, "0000.png")
	trace := func(dir string) []float32 {
		out := filepath.Join(t.TempDir(), "trace")
		code, _, stderr := gladd(t, "inspect", "--bundle", dir, "--trace", out, part)
		if code != 0 {
			t.Fatal(stderr)
		}
		side := loaded.Manifest.Score.MapSize
		values, err := npy.Decode(enginetest.ReadFile(t, filepath.Join(out, "0000.anomaly_map.npy")), side, side)
		if err != nil {
			t.Fatal(err)
		}
		return values
	}
	// A copy that does not ask, with the same gate threshold.
	other := enginetest.Copy(t, bundle)
	copyFile(t, filepath.Join(bundle, engines.CalibrationsFile), filepath.Join(other, engines.CalibrationsFile))
	enginetest.WriteFile(t, filepath.Join(other, engines.ManifestFile), []byte(strings.Replace(plain, "threshold: 0.074", fmt.Sprintf("threshold: %v", entry.GateThreshold), 1)))
	standardised, asItIs := trace(bundle), trace(other)
	for i, value := range asItIs {
		if want := (value - mean[i]) / std[i]; math.Abs(float64(standardised[i]-want)) > 1e-3*(1+math.Abs(float64(want))) {
			t.Fatalf("location %d: want %v, found %v", i, want, standardised[i])
		}
	}
	// There the calibration does not serve.
	_, lined, _ := gladd(t, "inspect", "--bundle", other, part)
	if reason := lines(t, lined)[0]["reason"].(map[string]any); reason["code"] != "unqualified" || !strings.Contains(reason["detail"].(string), "score.standardise none") {
		t.Errorf("found %v", reason)
	}

	// Calibrated again, it learns from maps that are not standardised yet.
	if code, _, stderr := gladd(t, arguments...); code != 0 {
		t.Fatal(stderr)
	}
	again := enginetest.Load(t, bundle)
	if mean2, _, err := again.Location(&again.Calibrations[1]); err != nil || !slices.Equal(mean, mean2) {
		t.Errorf("other statistics from the same parts: %v", err)
	}

	// Statistics that were tampered with are refused.
	path := filepath.Join(bundle, again.Calibrations[1].Location.File)
	content := enginetest.ReadFile(t, path)
	content[len(content)-1] ^= 1
	enginetest.WriteFile(t, path, content)
	if code, _, stderr := gladd(t, "inspect", "--bundle", bundle, part); code != 2 || !strings.Contains(stderr, "location statistics") || !strings.Contains(stderr, "expected SHA-256") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// Each class has thresholds of its own.
func TestCalibrateClasses(t *testing.T) {
	good := goodParts(t, 12)
	bundle := enginetest.Copy(t, enginetest.Micro(t))
	names := enginetest.Load(t, bundle).Manifest.Classes
	inspect := func(class string) map[string]any {
		code, lined, stderr := gladd(t, "inspect", "--bundle", bundle, "--class", class, filepath.Join(good, "0000.png"))
		if code != 0 {
			t.Fatal(stderr)
		}
		return lines(t, lined)[0]
	}
	for i, class := range names {
		code, stdout, stderr := gladd(t, "calibrate", "--bundle", bundle, "--good", good, "--class", class, "--false-reject", "0.3", "--confidence", "0.98")
		if code != 0 {
			t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
		}
		entry := enginetest.Load(t, bundle).Calibrations[i]
		if entry.Class != class {
			t.Errorf("want class %s, found %+v", class, entry)
		}
		if found := inspect(class); found["calibration_id"] != entry.ID || found["evaluation"] != "OK" {
			t.Errorf("%s: found %v", class, found)
		}
		for _, other := range names[i+1:] {
			if found := inspect(other); found["calibration_id"] != nil || found["reason"].(map[string]any)["code"] != "uncalibrated" {
				t.Errorf("%s is not calibrated yet: found %v", other, found)
			}
		}
	}
}

func TestCalibrateRefuses(t *testing.T) {
	good := goodParts(t, 4)
	bundle := enginetest.Copy(t, enginetest.TinyA(t))
	classes := enginetest.Copy(t, enginetest.Micro(t))
	for name, test := range map[string]struct {
		arguments []string
		want      string
	}{
		"too few":           {nil, "at most 1 % false rejects at 95 % confidence needs 299 distinct good parts that the networks were not trained with; found 4: 295 are missing"},
		"too few for both":  {[]string{"--false-reject", "0.6", "--gate", "learn"}, "needs 4 distinct good parts that the networks were not trained with, and 30 more to learn the gate threshold; found 4: 30 are missing. With --gate keep they are enough"},
		"a whole set":       {[]string{"--good", filepath.Dir(filepath.Dir(good))}, "expected good parts alone, found a set with train in it"},
		"rate":              {[]string{"--false-reject", "0"}, "false-reject rate: expected a share above 0 and below 1, found 0"},
		"confidence":        {[]string{"--confidence", "95"}, "confidence: expected a share above 0 and below 1, found 95"},
		"guard band":        {[]string{"--guard-band=-1"}, "guard band: expected a number of at least 0, found -1"},
		"no such folder":    {[]string{"--good", "nowhere"}, "no such picture or folder"},
		"parallel":          {[]string{"--parallel", "1000"}, "parallel inspections: expected 0 (chosen by size and processors) to 64, found 1000"},
		"no class named":    {[]string{"--bundle", classes}, "has several; name one of"},
		"no such class":     {[]string{"--bundle", classes, "--class", "none"}, "has none of this name"},
		"a class of one":    {[]string{"--class", "screw"}, "has no classes"},
		"nothing of a gate": {[]string{"--gate", "none"}, "--gate must be one of"},
	} {
		code, _, stderr := gladd(t, append([]string{"calibrate", "--bundle", bundle, "--good", good}, test.arguments...)...)
		if code != 2 || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: want exit code 2 and %q, found %d: %s", name, test.want, code, stderr)
		}
		if _, err := os.Stat(filepath.Join(bundle, engines.CalibrationsFile)); err == nil {
			t.Fatalf("%s: something was written", name)
		}
	}
}

// What the self-test gives is compared with what it gave at calibration.
func TestSelfTestIsCompared(t *testing.T) {
	s := newSite(t, "")
	bundle := filepath.Join(s.dir, "bundle")
	code, _, stderr := gladd(t, "calibrate", "--bundle", bundle, "--good", goodParts(t, 4), "--false-reject", "0.6")
	if code != 0 {
		t.Fatal(stderr)
	}
	start := func() *process { return launch(t, []string{"run", "--config", s.config(oneStation)}) }
	first := start()
	first.waitState("READY=1")
	if code := first.end(); code != 0 {
		t.Errorf("exit code %d: %s", code, first.errors())
	}

	path := filepath.Join(bundle, engines.CalibrationsFile)
	score := enginetest.Load(t, bundle).Calibrations[1].SelfTest.Score
	text := strings.Replace(string(enginetest.ReadFile(t, path)), fmt.Sprintf("score: %v\n", score), "score: 123\n", 1)
	enginetest.WriteFile(t, path, []byte(text))
	second := start()
	if code := second.wait(); code != 2 {
		t.Errorf("want exit code 2, found %d", code)
	}
	if found := second.errors(); !strings.Contains(found, "self-test of recipe r: the score: expected 123 as when the bundle was calibrated") {
		t.Errorf("found %s", found)
	}
}

// Mode adaptive has a plan and a threshold of its own; without a calibration
// comparisons are made in order.
func TestCalibrateAdaptive(t *testing.T) {
	good := goodParts(t, 60)
	bundle := enginetest.Copy(t, enginetest.TinyA(t))
	adaptive := func() []map[string]any {
		code, found, stderr := gladd(t, "inspect", "--bundle", bundle, "--threads", "1", "--mode", "adaptive", good)
		if code != 0 {
			t.Fatal(stderr)
		}
		return lines(t, found)
	}
	method := func(line map[string]any) string {
		method := line["method"].(map[string]any)
		return fmt.Sprint(method["mode"], " ", method["plan"])
	}
	if first := adaptive()[0]; method(first) != "exact exact" || len(first["gate"].([]any)) < 2 {
		t.Errorf("without a calibration: found %s, %v", method(first), first["gate"])
	}

	arguments := []string{"calibrate", "--bundle", bundle, "--good", good, "--false-reject", "0.3", "--confidence", "0.98", "--mode", "adaptive", "--other-switches", "0.3", "--gate", "keep"}
	code, stdout, stderr := gladd(t, arguments...)
	if code != 0 || !strings.Contains(stdout, "good parts switch elsewhere; at most 30 % at 98 % confidence") {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	calibrations := enginetest.Load(t, bundle).Calibrations
	if whole := calibrations[0]; len(calibrations) == 2 && (whole.Method.Plan != engines.PlanLatestFirst || whole.PlanSettings.Tail != nil) {
		t.Errorf("want the slower plan to come first, found %+v", whole)
	}
	entry := calibrations[len(calibrations)-1] // the quickest
	settings := entry.PlanSettings
	if entry.Method.Mode != engines.ModeAdaptive || settings == nil || settings.Agreement.Parts != 60 || settings.Agreement.Comparisons > 5 {
		t.Fatalf("found %+v, %+v", entry, settings)
	}
	_, found, _ := gladd(t, "inspect", "--bundle", bundle, "--threads", "1", "--mode", "exact", good)
	exact, others := lines(t, found), 0
	for i, line := range adaptive() {
		if method(line) != "adaptive "+entry.Method.Plan || line["calibration_id"] != entry.ID {
			t.Fatalf("found %s, calibration %v", method(line), line["calibration_id"])
		}
		if exact[i]["calibration_id"] != nil || exact[i]["evaluation"] != "Undefined" {
			t.Fatalf("a threshold of another plan serves mode exact: %v", exact[i])
		}
		if line["switch_timestep"] != exact[i]["switch_timestep"] || line["switch_reason"] != exact[i]["switch_reason"] {
			others++
		}
	}
	if others > 18 {
		t.Errorf("%d of 60 parts switch elsewhere than in mode exact", others)
	}

	// What cannot be promised is refused.
	code, _, stderr = gladd(t, append(arguments, "--other-switches", "0")...)
	if code != 2 || !strings.Contains(stderr, "other switches") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	code, _, stderr = gladd(t, "calibrate", "--bundle", bundle, "--good", good, "--false-reject", "0.05", "--mode", "adaptive")
	if code != 2 || !strings.Contains(stderr, "to choose the plan of comparisons (--mode adaptive)") {
		t.Errorf("exit code %d: %s", code, stderr)
	}

	// New thresholds for mode exact: those of mode adaptive are of older parts.
	code, stdout, stderr = gladd(t, "calibrate", "--bundle", bundle, "--good", good, "--false-reject", "0.3", "--confidence", "0.98", "--gate", "keep")
	if code != 0 || !strings.Contains(stdout, "left out from now on: learn new ones with --mode adaptive") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	if first := adaptive()[0]; method(first) != "exact exact" || first["calibration_id"] == nil {
		t.Errorf("expected the new calibration, found %s, %v", method(first), first["calibration_id"])
	}
}
