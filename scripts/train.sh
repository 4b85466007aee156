#!/usr/bin/env bash
# Trains the demo's model: plates of the virtual line, made here, all good ones.
# Called by 'make train'. Cut off and run again, it goes on.
#   BUNDLE  folder of the new bundle; without it out/training/plate/bundle
set -euo pipefail
cd "$(dirname "$0")/.."

parts=out/training/parts
work=out/training/plate
if [ ! -e "$parts/parts.jsonl" ]; then
	rm -rf "$parts"
	bin/gladd line --part plate --train 600 --seed 7 --out "$parts"
fi
out/training/env/bin/gladd-train training/recipes/plate.yaml --good "$parts/train/good" --out "$work" ${BUNDLE:+--bundle "$BUNDLE"}
