package main

import (
	"encoding/json"
	"encoding/xml"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gladd/daemon/internal/bench"
	"gladd/engines"
	"gladd/engines/enginetest"
)

// BenchmarkStart measures from the start of the process to ready: ledger,
// networks, self-test, camera, listeners.
func BenchmarkStart(b *testing.B) {
	bundle := os.Getenv("GLADD_BENCH_BUNDLE")
	if bundle == "" {
		bundle = enginetest.TinyA(b)
	}
	dir := b.TempDir()
	config := filepath.Join(dir, "gladd.yaml")
	enginetest.WriteFile(b, config, []byte(`site: p
line: l
box: b
stations: [{name: st-01, recipe: r, camera: {source: "folder:`+enginetest.TinyA(b)+`/images"}}]
recipes: {r: {bundle: `+bundle+`}}
ledger: {path: ledger.db}
mqtt: {embedded: true, listen: "127.0.0.1:0"}
web: {listen: "127.0.0.1:0"}
`))
	for b.Loop() {
		command := exec.Command(os.Args[0], "run", "--config", config)
		command.Env = append(os.Environ(), asProgram+"=1", "GLADD_ONNXRUNTIME_LIBRARY="+enginetest.Library(b))
		stderr, err := command.StderrPipe()
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if err := command.Start(); err != nil {
			b.Fatal(err)
		}
		var log strings.Builder
		buffer := make([]byte, 4096)
		for !strings.Contains(log.String(), `"msg":"ready"`) {
			n, err := stderr.Read(buffer)
			if err != nil {
				b.Fatalf("%v: %s", err, &log)
			}
			log.Write(buffer[:n])
		}
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ready-ms")
		b.StopTimer()
		if err := command.Process.Signal(os.Interrupt); err != nil {
			b.Fatal(err)
		}
		command.Wait() //nolint:errcheck // it was told to end
		b.StartTimer()
	}
}

// gladd bench shows what each plan costs and what it changes.
func TestBench(t *testing.T) {
	data := labelled(t, 2, 2)
	bundle := enginetest.Copy(t, enginetest.TinyA(t))
	arguments := []string{"bench", "--bundle", bundle, "--data", data, "--threads", "1"}
	code, _, stderr := gladd(t, append(arguments, "--plans", "short-tail")...)
	if code != 2 || !strings.Contains(stderr, "has no calibration for plan short-tail; learn one: gladd calibrate --mode adaptive") {
		t.Errorf("exit code %d: %s", code, stderr)
	}

	calibrate(t, bundle)
	entry := enginetest.Load(t, bundle).Calibrations[0]
	entry.GateThreshold = 10 // never crossed
	one := 1
	for _, plan := range []struct {
		name     string
		settings *engines.PlanSettings
	}{
		{engines.PlanExact, nil}, {engines.PlanLatestFirst, &engines.PlanSettings{}}, {engines.PlanShortTail, &engines.PlanSettings{Tail: &one}},
	} {
		entry.ID, entry.PlanSettings, entry.SelfTest = plan.name, plan.settings, nil
		entry.Method = engines.MethodOf(engines.Runtime{Backend: entry.Method.Backend, Precision: entry.Method.Precision}, plan.name)
		if err := engines.AppendCalibration(bundle, entry); err != nil {
			t.Fatal(err)
		}
	}
	jsonFile, svgFile := filepath.Join(t.TempDir(), "bench.json"), filepath.Join(t.TempDir(), "bench.svg")
	code, stdout, stderr := gladd(t, append(arguments, "--parts", "2", "--json", jsonFile, "--svg", svgFile)...)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var report bench.Report
	if err := json.Unmarshal(enginetest.ReadFile(t, jsonFile), &report); err != nil {
		t.Fatal(err)
	}
	if report.Good != 2 || report.Bad != 2 || len(report.Plans) != 3 || len(report.Against) != 2 || len(report.Loads) != 9 || len(report.Stations) != 12 || len(report.Batches) != 20 {
		t.Fatalf("found %+v", report)
	}
	exact, latest, short := report.Plans[0], report.Plans[1], report.Plans[2]
	if exact.Pairs != float64(exact.Calls.Comparisons) || latest.Pairs != 1 || short.Pairs != 1 || exact.BadPairs != exact.Pairs || exact.Crossed != 0 ||
		short.Calls.Predictions != exact.Calls.Comparisons+1 || latest.Calls.Predictions != exact.Calls.Predictions || exact.Calls.Tail < 2 {
		t.Errorf("found %+v", report.Plans)
	}
	for _, plan := range report.Plans {
		sum := 0.0
		for _, stage := range plan.Stages {
			sum += stage.MS
		}
		if math.Abs(sum-plan.Good.Mean) > 0.01*sum || plan.Slowest < plan.Good.Mean || plan.Networks <= 0 || plan.Networks >= 1 {
			t.Errorf("stages of %v ms in a part of %+v", sum, plan)
		}
	}
	// Without a crossing the same switch and, with a whole tail, the same score.
	whole, shorter := report.Against[0], report.Against[1]
	if whole.SameSwitch < 1 || whole.LargestDifference > 1e-6 || *whole.SameVerdict != 1 || *whole.AUROC != *whole.FirstAUROC || shorter.LargestDifference < 1e-4 {
		t.Errorf("found %+v", report.Against)
	}
	// GLAD's official networks: 95.9 guided steps by the count that the figures come from, 33 with one comparison.
	if found := report.FullSize; math.Abs(found[0].Units-96.1) > 0.3 || math.Abs(found[1].Units-33.7) > 0.8 || found[2].Units >= found[1].Units {
		t.Errorf("found %+v", found)
	}
	for _, want := range []string{"A good part, ms in the mean", "outside the networks", "Beside exact", "short-tail at 95 % of its capacity", "Stations on the same networks"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("want %q in:\n%s", want, stdout)
		}
	}
	var svg struct {
		XMLName xml.Name `xml:"svg"`
	}
	if err := xml.Unmarshal(enginetest.ReadFile(t, svgFile), &svg); err != nil {
		t.Errorf("plot: %v", err)
	}
}
