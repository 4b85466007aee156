#!/usr/bin/env bash
# Tests and measures gladd on a machine with an NVIDIA GPU, and prints one table. Called
# by 'make test-gpu'. What is not there is named and left out.
#   BUNDLE  folder of a model; without it bundles/demo
#   DATA    labelled set of its parts; without it plates of the virtual line, drawn here
#   COUNT   parts to inspect by each backend; 40 without it
#   GLADD_TENSORRT_LIBRARY, GLADD_ONNXRUNTIME_CUDA_LIBRARY  the libraries, if not in the
#           usual places
set -euo pipefail
cd "$(dirname "$0")/.."

out=out/gpu
bundle=${BUNDLE:-bundles/demo}
data=${DATA:-$out/plates}
count=${COUNT:-40}
mkdir -p "$out"
rm -f "$out"/*.json

say() { printf 'test-gpu: %s\n' "$*"; }
bin/gladd version
if [ -z "${DATA:-}" ] && [ ! -e "$data/parts.jsonl" ]; then
	bin/gladd line --part plate --train 1 --good 20 --defective 20 --seed 9 --out "$data"
fi

say "the driver's layer, and the official code's values through TensorRT and through ONNX Runtime's CUDA provider"
GLADD_TEST_GPU=1 go test -count=1 -run OnThisMachine -v ./trt/cuda ./daemon/internal/app | tee "$out/tests.txt"

# One report for each backend, on the same parts.
measure() { # NAME BACKEND [FLAGS]
	local name=$1 backend=$2
	shift 2
	say "gladd bench on $name"
	if ! bin/gladd bench --backend "$backend" --bundle "$bundle" --data "$data" --count "$count" --parts 0 --json "$out/$name.json" "$@" >"$out/$name.txt" 2>&1; then
		tail -n 1 "$out/$name.txt"
		say "not run: $name"
		rm -f "$out/$name.json"
	fi
}
measure onnxruntime onnxruntime
measure tensorrt tensorrt --cache-dir "$out/engines"
cuda=()
[ -z "${GLADD_ONNXRUNTIME_CUDA_LIBRARY:-}" ] || cuda=(--onnxruntime-library "$GLADD_ONNXRUNTIME_CUDA_LIBRARY")
measure onnxruntime-cuda onnxruntime-cuda "${cuda[@]}"
if [ -e "$out/tensorrt.json" ]; then
	say "each engine against ONNX Runtime"
	bin/gladd engines verify --bundle "$bundle" --cache-dir "$out/engines" | tee "$out/verify.txt"
fi
python=out/training/env/bin/python
if [ -x "$python" ] && "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
	say "the same networks in PyTorch"
	"$python" bench/reference/torch_gpu.py --bundle "$bundle" --json "$out/pytorch.json" || say "not run: PyTorch"
else
	say "not run: PyTorch (it takes $python with CUDA, which make test-training makes)"
fi
python3 bench/reference/gpu_table.py "$out"
