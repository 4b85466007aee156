#!/usr/bin/env bash
# Measures speed and memory, and prints medians with their spread. Called by
# 'make bench'.
#   BUNDLE  folder of a model; without it the golden test bundle
#   DATA    folder of pictures; without it the golden bundle's
#   RUNS    how often each benchmark is run; 6 without it
#   SOAK    inspections of the soak; 1000 without it
#   DEADLINE  parts of the load with deadlines; 2000 without it
#   TRIGGERS  triggers of the daemon's soak, without networks; 10000 without it
set -euo pipefail
cd "$(dirname "$0")/.."

stop() { printf 'bench: %s\n' "$@" >&2; exit 2; }
golden=testdata/golden/tiny-a
if [ -n "${BUNDLE:-}" ] && [ -z "${DATA:-}" ]; then
	stop "BUNDLE is given without DATA. Name a folder of pictures too: make bench BUNDLE=DIR DATA=DIR"
fi
GLADD_BENCH_BUNDLE=$(realpath "${BUNDLE:-$golden}")
GLADD_BENCH_DATA=$(realpath "${DATA:-$golden/images}")
GLADD_ONNXRUNTIME_LIBRARY=$(realpath "${GLADD_ONNXRUNTIME_LIBRARY:-$(ls lib/libonnxruntime.so.*)}")
export GLADD_BENCH_BUNDLE GLADD_BENCH_DATA GLADD_ONNXRUNTIME_LIBRARY
benchstat=bin/tools/benchstat
mkdir -p out bin/tools
if [ ! -e $benchstat ]; then
	GOFLAGS='' GOBIN=$PWD/bin/tools go install golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
fi

echo "machine: $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), $(go env GOVERSION)"
echo "bundle:  $GLADD_BENCH_BUNDLE"
echo "data:    $GLADD_BENCH_DATA"
go test -run '^$' -bench 'BenchmarkInspect|BenchmarkThreads' -benchtime 10x -count "${RUNS:-6}" ./daemon/internal/app ./engines/onnxruntime | tee out/bench.txt | grep --line-buffered -E 'FAIL|panic' || true
go test -run '^$' -bench BenchmarkStart -benchtime 5x -count "${RUNS:-6}" ./daemon >>out/bench.txt || true
GLADD_BENCH_TRIGGERS=${TRIGGERS:-10000} go test -timeout 2h -run '^$' -bench . -benchtime 1x -count "${RUNS:-6}" ./daemon/internal/mes >>out/bench.txt || true
GLADD_BENCH_DEADLINE=${DEADLINE:-2000} go test -timeout 2h -run '^$' -bench BenchmarkDeadline -benchtime 1x ./daemon/internal/app >>out/bench.txt || true
go test -run '^$' -bench . -benchtime 20x -count "${RUNS:-6}" ./capture/virtualline >>out/bench.txt || true
go test -run '^$' -bench . -benchtime 1x -count "${RUNS:-6}" ./daemon/internal/evaluate >>out/bench.txt || true
$benchstat out/bench.txt
if grep -q -E '^(FAIL|panic)' out/bench.txt; then stop "a benchmark failed; see out/bench.txt"; fi

echo
echo "soak:"
GLADD_BENCH_SOAK=${SOAK:-1000} go test -timeout 2h -run '^$' -bench BenchmarkSoak -benchtime 1x ./daemon/internal/app | grep -E 'Benchmark|FAIL'
