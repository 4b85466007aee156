#!/usr/bin/env bash
# Tests and measures gladd on a machine with an NVIDIA GPU, and prints one table. Called
# by 'make test-gpu'. What is not there is named and left out; what is there and
# fails is named with its cause, and the exit code is 1, as it is where a call misses
# its bar.
#   BUNDLE  folder of a model; without it bundles/demo
#   DATA    labelled set of its parts; without it plates of the virtual line, drawn here
#   COUNT   parts to inspect by each backend; 40 without it
#   GLADD_TENSORRT_LIBRARY, GLADD_ONNXRUNTIME_CUDA_LIBRARY, GLADD_CUDA_LIBRARY  the libraries,
#           if not in the usual places
set -euo pipefail
cd "$(dirname "$0")/.."

out=out/gpu
bundle=${BUNDLE:-bundles/demo}
data=${DATA:-$out/plates}
count=${COUNT:-40}
mkdir -p "$out"
rm -f "$out"/*.json "$out"/*.absent "$out"/*.failed

say() { printf 'test-gpu: %s\n' "$*"; }

# absent NAME REASON and failed NAME CAUSE are what gpu_table.py reads.
absent() { say "not run: $1: $2"; printf '%s\n' "$2" >"$out/$1.absent"; }
failed() { say "failed: $1: $2"; printf '%s\n' "$2" >"$out/$1.failed"; }

# cause STATUS FILE: why a program failed, by its exit code and its output.
cause() {
	local last
	last=$(grep -v '^[[:space:]]*$' "$2" | tail -n 1 || true)
	if [ "$1" -gt 128 ]; then
		echo "killed by signal $(kill -l $(($1 - 128)) 2>/dev/null || echo $(($1 - 128))); ${last:-no output}; see $2"
	else
		echo "${last:-exit code $1}; see $2"
	fi
}

# state BACKEND [FLAGS]: "here", "not here: why" or "broken: why".
state() { bin/gladd version "${@:2}" | sed -n "s/^Backend  *$1  *//p"; }

bin/gladd version
if [ -z "${DATA:-}" ] && [ ! -e "$data/parts.jsonl" ]; then
	bin/gladd line --part plate --train 1 --good 20 --defective 20 --seed 9 --out "$data"
fi
cuda=()
[ -z "${GLADD_ONNXRUNTIME_CUDA_LIBRARY:-}" ] || cuda=(--onnxruntime-library "$GLADD_ONNXRUNTIME_CUDA_LIBRARY")
declare -A states
states[onnxruntime]=$(state onnxruntime)
states[tensorrt]=$(state tensorrt)
states[onnxruntime-cuda]=$(state onnxruntime-cuda "${cuda[@]}")

say "the driver's layer, and the official code's values on each backend that is here"
tested=
for backend in tensorrt onnxruntime-cuda; do
	case ${states[$backend]} in
	"not here: "*) ;;
	*) tested="$tested $backend" ;;
	esac
done
GLADD_TEST_GPU=1 GLADD_TEST_BACKENDS=$tested go test -count=1 -run OnThisMachine -v ./trt/cuda ./daemon/internal/app 2>&1 | tee "$out/tests.txt" ||
	failed tests "$(grep -m 3 -e '--- FAIL' -e 'panic:' -e 'SIG[A-Z]*:' "$out/tests.txt" | tr -s ' \n' ' '); see $out/tests.txt"

# One report for each backend, on the same parts.
measure() { # BACKEND [FLAGS]
	local name=$1 status=0
	shift
	case ${states[$name]} in
	"not here: "*)
		absent "$name" "${states[$name]#not here: }"
		return
		;;
	esac
	say "gladd bench on $name"
	bin/gladd bench --backend "$name" --bundle "$bundle" --data "$data" --count "$count" --parts 0 --json "$out/$name.json" "$@" >"$out/$name.txt" 2>&1 || status=$?
	if [ "$status" != 0 ]; then
		rm -f "$out/$name.json"
		failed "$name" "$(cause "$status" "$out/$name.txt")"
	fi
}
measure onnxruntime
measure tensorrt --cache-dir "$out/engines"
measure onnxruntime-cuda "${cuda[@]}"
if [ -e "$out/tensorrt.json" ]; then
	say "each engine against ONNX Runtime"
	status=0
	bin/gladd engines verify --bundle "$bundle" --cache-dir "$out/engines" >"$out/verify.txt" 2>&1 || status=$?
	cat "$out/verify.txt"
	[ "$status" = 0 ] || failed verify "$(cause "$status" "$out/verify.txt")"
fi

python=out/training/env/bin/python
if [ ! -x "$python" ] || ! "$python" -c 'import torch, sys; sys.exit(torch.version.cuda is None)' 2>/dev/null; then
	absent pytorch "no $python with a PyTorch that was built for CUDA, which make test-training makes"
else
	say "the same networks in PyTorch"
	status=0
	"$python" bench/reference/torch_gpu.py --bundle "$bundle" --json "$out/pytorch.json" >"$out/pytorch.txt" 2>&1 || status=$?
	case $status in
	0) ;;
	3) absent pytorch "$(tail -n 1 "$out/pytorch.txt")" ;; # it cannot build these networks
	*) rm -f "$out/pytorch.json"; failed pytorch "$(cause "$status" "$out/pytorch.txt")" ;;
	esac
fi
python3 bench/reference/gpu_table.py "$out"
