package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
