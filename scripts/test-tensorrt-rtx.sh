#!/usr/bin/env bash
# Builds engines of gladd's networks with the real TensorRT for RTX, which needs
# no GPU for that. The library (90 MB) is fetched into out/ by digest; its licence
# allows use, not redistribution.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.6.1.120
sha256=3373b82f1e63139f99d572d28a1761cfc79ff3cf33342a1ce0b59a53fea4f01b
folder=out/tensorrt-rtx-$version
library=$folder/tensorrt_rtx_libs/libtensorrt_rtx.so.1

stop() { printf 'test-tensorrt-rtx: %s\n' "$@" >&2; exit 1; }

[ "$(uname -m)" = x86_64 ] || stop "TensorRT for RTX is tested on x86_64; this machine is $(uname -m)."
scripts/tensorrt-headers.sh
if [ ! -e "$library" ]; then
	echo "test-tensorrt-rtx: downloading TensorRT for RTX $version to $folder"
	download=$(mktemp -d)
	trap 'rm -rf "$download"' EXIT
	echo "tensorrt-rtx-cu12-libs==$version --hash=sha256:$sha256" >"$download/requirements.txt"
	if ! python3 -m pip download --quiet --no-deps --require-hashes --only-binary=:all: --dest "$download" \
		--requirement "$download/requirements.txt" >"$download/log" 2>&1; then
		tail -n 3 "$download/log" >&2
		stop "the download failed or was not what was expected (above). Is this machine offline?"
	fi
	rm -rf "$folder" "$folder.new"
	mkdir -p "$folder.new"
	python3 -m zipfile -e "$download"/*.whl "$folder.new"
	mv "$folder.new" "$folder"
fi

# The Makefile's build tags are in GOFLAGS; one more is added to them.
tags=$(sed -n 's/.*-tags=\([^ ]*\).*/\1/p' <<<"${GOFLAGS:-}")
GLADD_TENSORRT_RTX_LIBRARY=$PWD/$library go test -count 1 -v -tags "${tags:+$tags,}tensorrt" -run '^TestRTX' "$@" ./trt
