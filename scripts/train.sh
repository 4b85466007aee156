#!/usr/bin/env bash
# Trains the demo's model from good plates of the virtual line, made here, and
# calibrates it with others. Called by 'make train'. Cut off and run again, it goes on.
#   BUNDLE  folder of the new bundle; without it out/training/plate/bundle
#   RECIPE  another recipe than training/recipes/plate.yaml, for trying it out
set -euo pipefail
cd "$(dirname "$0")/.."

work=out/training/plate
bundle=${BUNDLE:-$work/bundle}
recipe=${RECIPE:-training/recipes/plate.yaml}
if [ -e "$bundle/calibrations.yaml" ]; then
	printf 'train: %s\n' "$bundle exists and is calibrated. A bundle never changes: delete it first, or name another folder with BUNDLE=." >&2
	exit 2
fi

# parts SEED COUNT DIR: good plates.
parts() {
	if [ ! -e "$3/parts.jsonl" ]; then
		rm -rf "$3"
		bin/gladd line --part plate --train "$2" --good 0 --defective 0 --seed "$1" --out "$3"
	fi
}
parts 7 600 out/training/parts
parts 8 800 out/training/set-aside

if [ ! -e "$bundle/bundle.yaml" ]; then
	train=(out/training/env/bin/gladd-train "$recipe" --good out/training/parts/train/good --out "$work" --threads 1)
	# Two processes of one thread are faster than one of two.
	echo "train: the features are trained beside the rest; their log for TensorBoard is in $work/features/log"
	"${train[@]}" --stage features --quiet &
	features=$!
	trap 'kill "$features" 2>/dev/null || true' EXIT
	"${train[@]}" --stage denoiser
	wait "$features"
	trap - EXIT
	"${train[@]}" --bundle "$bundle" --note "gladd line --part plate --train 600 --good 0 --defective 0 --seed 7"
fi
# Exact first: plans of mode adaptive that are older than it would be left out.
bin/gladd calibrate --bundle "$bundle" --good out/training/set-aside/train/good
bin/gladd calibrate --bundle "$bundle" --good out/training/set-aside/train/good --mode adaptive
