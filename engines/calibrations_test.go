package engines_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"gladd/engines"
	"gladd/engines/enginetest"
)

const entry = `  - {id: %ID, model_digest: "%DIGEST", backend: onnxruntime, precision: fp32, mode: exact, plan: exact, gate_threshold: 0.3, image_threshold: 0.4, guard_band: 0.01, region_threshold: 0.2, learned_from: {good: 300}, promise: {false_reject: 0.01}}
`

// calibrated writes a calibrations file beside a copy of the micro bundle.
func calibrated(t *testing.T, content string) (dir string) {
	t.Helper()
	dir = enginetest.Copy(t, enginetest.Micro(t))
	digest := enginetest.Load(t, dir).ModelDigest
	content = strings.ReplaceAll(content, "%DIGEST", digest)
	enginetest.WriteFile(t, filepath.Join(dir, engines.CalibrationsFile), []byte(content))
	return dir
}

func TestCalibrationOfAMethod(t *testing.T) {
	const head = "schema: gladd.calibrations/v1\ncalibrations:\n"
	first, second := strings.ReplaceAll(entry, "%ID", "first"), strings.ReplaceAll(entry, "%ID", "second")
	foreign := strings.ReplaceAll(first, "%DIGEST", strings.Repeat("ab", 32))
	method := engines.Method{Backend: "onnxruntime", Precision: "fp32", Mode: "exact", Plan: "exact"}
	for name, test := range map[string]struct {
		content string
		state   engines.CalibrationState
		id      string
	}{
		"one":               {head + first, engines.Calibrated, "first"},
		"the newest of two": {head + first + second, engines.Calibrated, "second"},
		"no entries":        {"schema: gladd.calibrations/v1\ncalibrations: []\n", engines.Uncalibrated, ""},
		"another model":     {head + foreign, engines.Uncalibrated, ""},
		"another backend":   {head + strings.ReplaceAll(first, "backend: onnxruntime", "backend: tensorrt"), engines.Unqualified, ""},
		"another precision": {head + strings.ReplaceAll(first, "fp32", "fp16"), engines.Unqualified, ""},
		"another mode":      {head + strings.ReplaceAll(first, "mode: exact", "mode: adaptive"), engines.Unqualified, ""},
		"another plan":      {head + strings.ReplaceAll(first, "plan: exact", "plan: late"), engines.Unqualified, ""},
	} {
		t.Run(name, func(t *testing.T) {
			calibration, state := enginetest.Load(t, calibrated(t, test.content)).Calibration(method, "")
			if state != test.state || (calibration == nil) != (test.id == "") || (calibration != nil && calibration.ID != test.id) {
				t.Fatalf("want state %d and %q, found %d and %+v", test.state, test.id, state, calibration)
			}
			if calibration != nil && (calibration.GateThreshold != 0.3 || calibration.ImageThreshold != 0.4 || calibration.GuardBand != 0.01 || *calibration.RegionThreshold != 0.2) {
				t.Errorf("found %+v", calibration)
			}
		})
	}
	if _, state := enginetest.Load(t, enginetest.Micro(t)).Calibration(method, ""); state != engines.Uncalibrated {
		t.Errorf("without a file: want uncalibrated, found %d", state)
	}
}

func TestLoadRefusesCalibrations(t *testing.T) {
	good := "schema: gladd.calibrations/v1\ncalibrations:\n" + strings.ReplaceAll(entry, "%ID", "one")
	for name, test := range map[string]struct{ old, replacement, want string }{
		"another schema":       {"calibrations/v1", "calibrations/v2", `schema: expected gladd.calibrations/v1, found "gladd.calibrations/v2"`},
		"unknown key":          {"guard_band", "guard_bnd", "calibrations.yaml:3: calibrations.0.guard_bnd: unknown key"},
		"no image threshold":   {"image_threshold: 0.4, ", "", "calibrations.yaml:3: calibrations.0.image_threshold: required, but missing"},
		"no gate threshold":    {"gate_threshold: 0.3, ", "", "calibrations.0.gate_threshold: required, but missing"},
		"no backend":           {"backend: onnxruntime, ", "", "calibrations.0.backend: required, but missing"},
		"image threshold NaN":  {"image_threshold: 0.4", "image_threshold: .nan", "calibrations.0.image_threshold: expected a number, found NaN"},
		"gate threshold below": {"gate_threshold: 0.3", "gate_threshold: -0.3", "calibrations.0.gate_threshold: expected a number of at least 0, found -0.3"},
		"guard band infinite":  {"guard_band: 0.01", "guard_band: .inf", "calibrations.0.guard_band: expected a number of at least 0, found +Inf"},
		"region threshold NaN": {"region_threshold: 0.2", "region_threshold: .nan", "calibrations.0.region_threshold: expected a number, found NaN"},
		"digest that is none":  {`"%DIGEST"`, `"abc"`, `calibrations.0.model_digest: expected 64 lower-case hex digits, found "abc"`},
		"not YAML":             {"schema:", "{schema:", "calibrations.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Count(good, test.old) != 1 {
				t.Fatalf("%q stands %d times in the file", test.old, strings.Count(good, test.old))
			}
			_, err := engines.Load(calibrated(t, strings.Replace(good, test.old, test.replacement, 1)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("want an error with %q, found %v", test.want, err)
			}
		})
	}
	_, err := engines.Load(calibrated(t, good+strings.ReplaceAll(entry, "%ID", "one")))
	if want := `calibrations.1.id: expected an id of its own, found "one", which is also that of calibrations.0`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("an id twice: want %q, found %v", want, err)
	}
}

// An entry is written behind the others, which stay as they are, comments and
// the way that numbers are written included.
func TestAppendCalibration(t *testing.T) {
	const head = "# by hand\nschema: gladd.calibrations/v1\ncalibrations:\n"
	first := strings.ReplaceAll(entry, "%ID", "first")
	for name, content := range map[string]string{
		"to one":      head + strings.ReplaceAll(first, "0.3,", "0.30, # kept\n    "),
		"to none":     "schema: gladd.calibrations/v1\ncalibrations: []\n",
		"to null":     "schema: gladd.calibrations/v1\ncalibrations:\n",
		"to a schema": "schema: gladd.calibrations/v1\n",
		"to no file":  "",
	} {
		dir := calibrated(t, content)
		path := filepath.Join(dir, engines.CalibrationsFile)
		if content == "" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		before := enginetest.Load(t, dir)
		region := 0.7
		added := engines.Calibration{
			ID: "added", ModelDigest: before.ModelDigest,
			Method:         engines.Method{Backend: "onnxruntime", Precision: "fp32", Mode: "exact", Plan: "exact"},
			GateThreshold:  0.1,
			ImageThreshold: -0.5, RegionThreshold: &region,
			ImageHealth: &engines.ImageHealth{Brightness: engines.Limits{Low: 1, High: 2}},
			SelfTest:    &engines.SelfTest{Score: 1, SwitchReason: "min_step", SwitchTimestep: 3, Gate: []engines.GatePoint{{Timestep: 5, Score: 0.25}}},
			GateCurves:  &engines.GateCurves{Parts: 2, Timesteps: []int{5, 3}, Median: []float64{1, 2}, Highest: []float64{1, 3}},
			LearnedFrom: map[string]any{"good": 2},
		}
		for _, id := range []string{"added", "again"} {
			added.ID = id
			if err := engines.AppendCalibration(dir, added); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		after := enginetest.Load(t, dir)
		count := len(before.Calibrations)
		if len(after.Calibrations) != count+2 || !reflect.DeepEqual(after.Calibrations[count+1], added) {
			t.Errorf("%s: found %+v", name, after.Calibrations)
		}
		if count > 0 && !reflect.DeepEqual(after.Calibrations[:count], before.Calibrations) {
			t.Errorf("%s: want the earlier %+v, found %+v", name, before.Calibrations, after.Calibrations[:count])
		}
		if used, _ := after.Calibration(added.Method, ""); used == nil || used.ID != "again" {
			t.Errorf("%s: the newest is not used", name)
		}
		if text := string(enginetest.ReadFile(t, path)); name == "to one" && (!strings.HasPrefix(text, "# by hand\n") || !strings.Contains(text, "0.30") || !strings.Contains(text, "# kept")) {
			t.Errorf("%s: found\n%s", name, text)
		}
	}
}

func TestAppendToABrokenFile(t *testing.T) {
	dir := calibrated(t, "schema: gladd.calibrations/v1\ncalibrations: [}\n")
	path := filepath.Join(dir, engines.CalibrationsFile)
	before := enginetest.ReadFile(t, path)
	if err := engines.AppendCalibration(dir, engines.Calibration{ID: "added"}); err == nil {
		t.Error("want an error")
	}
	if after := enginetest.ReadFile(t, path); string(after) != string(before) {
		t.Errorf("the file was changed to\n%s", after)
	}
}

// Two that calibrate at a time lose nothing.
func TestAppendSideBySide(t *testing.T) {
	dir := enginetest.Copy(t, enginetest.Micro(t))
	digest := enginetest.Load(t, dir).ModelDigest
	var group errgroup.Group
	for i := range 8 {
		group.Go(func() error {
			return engines.AppendCalibration(dir, engines.Calibration{ID: strconv.Itoa(i), ModelDigest: digest, Method: engines.Method{Backend: "b", Precision: "p", Mode: "m", Plan: "p"}})
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if found := enginetest.Load(t, dir).Calibrations; len(found) != 8 {
		t.Errorf("want 8 calibrations, found %d", len(found))
	}
}
