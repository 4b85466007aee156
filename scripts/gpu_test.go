// Package scripts holds what make calls; its tests run scripts with stand-ins for the
// programs that they call.
package scripts

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// gladd stands in for bin/gladd: what it does for each command is in files beside it.
const gladd = `#!/usr/bin/env bash
here=$(dirname "$0")
command=$1
while [ $# -gt 0 ]; do
	case $1 in
	--backend) backend=$2 ;;
	--json) json=$2 ;;
	esac
	shift
done
case $command in
version) cat "$here/version" ;;
bench)
	[ ! -e "$here/$backend.sh" ] || . "$here/$backend.sh"
	cp "$here/report-$backend.json" "$json" 2>/dev/null || cp "$here/report.json" "$json"
	;;
engines) [ ! -e "$here/verify.sh" ] || . "$here/verify.sh" ;;
esac
`

const report = `{"machine": {"library": "a library", "precision": "fp32"}, "plans": [{"good_ms": {"mean": 12.3}}], "batches": [
 {"call": "encode", "size": 1, "ms_each": 1}, {"call": "predict noise", "size": 1, "ms_each": 2}, {"call": "compare", "size": 1, "ms_each": 3},
 {"call": "reconstruct", "size": 1, "ms_each": 4}, {"call": "score", "size": 1, "ms_each": 5}]GPU}`

func withGPU(events, endToEnd string) string {
	return strings.Replace(report, "GPU", `, "gpu": {"bars": {"events": 1.02, "end_to_end": 1.05}, "free_bytes": 1, "bytes": 2000000001, "calls": [
 {"call": "compare", "engines_ms": 2, "copies_ms": 1, "one_by_one_ms": 3.1, "whole_ms": 3.12, "events": `+events+`, "end_to_end": `+endToEnd+`}]}`, 1)
}

const allHere = `gladd         development
Backend       onnxruntime      here
Backend       onnxruntime-cuda here
Backend       tensorrt         here
`

// What is not there is not run; what is there and fails has failed, and the exit code
// says so.
func TestGPU(t *testing.T) {
	for name, test := range map[string]struct {
		files  map[string]string // beside the stand-in
		tests  string            // what stands in for the tests
		want   []string
		unwant string
		fails  bool
	}{
		"all pass": {nil, "true", []string{
			"1.010 pass", "1.040 pass", "memory in use: 2.00 GB", "a good part, mode exact", "onnxruntime-cuda: a library, fp32",
			"not run: pytorch: no out/training/env/bin/python", "backends tested: tensorrt onnxruntime-cuda",
		}, "failed", false},
		"TensorRT is not there": {map[string]string{"version": strings.Replace(allHere, "tensorrt         here", "tensorrt         not here: no TensorRT is here", 1)}, "true",
			[]string{"not run: tensorrt: no TensorRT is here", "backends tested: onnxruntime-cuda"}, "failed", false},
		"TensorRT crashes": {map[string]string{"tensorrt.sh": "echo building; kill -SEGV $$"}, "true",
			[]string{"failed: tensorrt: killed by signal SEGV; building; see out/gpu/tensorrt.txt", "onnxruntime-cuda: a library, fp32"}, "not run: tensorrt", true},
		"the CUDA provider fails": {map[string]string{"onnxruntime-cuda.sh": "echo gladd: cuDNN is missing >&2; exit 2"}, "true",
			[]string{"failed: onnxruntime-cuda: gladd: cuDNN is missing; see", "1.010 pass"}, "not run: onnxruntime-cuda", true},
		"TensorRT is broken": {map[string]string{
			"version":     strings.Replace(allHere, "tensorrt         here", "tensorrt         broken: of another version", 1),
			"tensorrt.sh": "echo gladd: of another version; exit 2",
		}, "true", []string{"failed: tensorrt: gladd: of another version", "backends tested: tensorrt onnxruntime-cuda"}, "not run: tensorrt", true},
		"slower by events":      {map[string]string{"report-tensorrt.json": withGPU("1.03", "1.04")}, "true", []string{"1.030 miss", "missed: compare, events: 1.030, bar 1.02"}, "failed", true},
		"slower from outside":   {map[string]string{"report-tensorrt.json": withGPU("0.99", "1.06")}, "true", []string{"1.060 miss", "missed: compare, end to end: 1.060, bar 1.05"}, "failed", true},
		"a golden value is off": {nil, "echo '    --- FAIL: TestGoldenTinyAOnThisMachine/tensorrt/fp32 (1.2s)'; exit 1", []string{"failed: tests: --- FAIL: TestGoldenTinyAOnThisMachine/tensorrt/fp32 (1.2s)", "1.010 pass"}, "", true},
		"PyTorch cannot build them": {map[string]string{"../out/training/env/bin/python": "#!/bin/sh\n[ $1 = -c ] || { echo expected other networks; exit 3; }"}, "true",
			[]string{"not run: pytorch: expected other networks"}, "failed", false},
		"PyTorch crashes": {map[string]string{"../out/training/env/bin/python": "#!/bin/sh\n[ $1 = -c ] || kill -ABRT $$"}, "true",
			[]string{"failed: pytorch: killed by signal ABRT; no output"}, "not run: pytorch", true},
		"engines differ": {map[string]string{"verify.sh": "echo 'gladd: engines differ from ONNX Runtime'; exit 1"}, "true", []string{"failed: verify: gladd: engines differ from ONNX Runtime"}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for path, content := range map[string]string{
				"bin/gladd": gladd, "bin/version": allHere, "bin/report.json": strings.Replace(report, "GPU", "", 1), "bin/report-tensorrt.json": withGPU("1.01", "1.04"),
				"path/go": "#!/bin/sh\necho backends tested: $GLADD_TEST_BACKENDS\n" + test.tests + "\n",
			} {
				write(t, filepath.Join(dir, path), content)
			}
			for path, content := range test.files {
				write(t, filepath.Join(dir, "bin", path), content)
			}
			for _, path := range []string{"scripts/test-gpu.sh", "bench/reference/gpu_table.py"} {
				content, err := os.ReadFile(filepath.Join("..", path))
				if err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(dir, path), string(content))
			}
			command := exec.Command(filepath.Join(dir, "scripts/test-gpu.sh"))
			command.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "path")+":"+os.Getenv("PATH"), "DATA=data", "GLADD_ONNXRUNTIME_CUDA_LIBRARY=")
			output, err := command.CombinedOutput()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if failed := err != nil; failed != test.fails {
				t.Errorf("expected a failure: %t, found %v", test.fails, err)
			}
			for _, want := range test.want {
				if !strings.Contains(string(output), want) {
					t.Errorf("expected %q", want)
				}
			}
			if test.unwant != "" && strings.Contains(string(output), test.unwant) {
				t.Errorf("expected no %q", test.unwant)
			}
			if t.Failed() {
				t.Logf("%s", output)
			}
		})
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil { //nolint:gosec // some are programs
		t.Fatal(err)
	}
}
