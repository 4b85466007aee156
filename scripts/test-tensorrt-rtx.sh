#!/usr/bin/env bash
# Builds engines of gladd's networks with the real TensorRT for RTX, which needs
# no GPU for that, and opens the real runtimes of TensorRT 10 and 11. The
# libraries (170 MB) are fetched into out/ by digest; their licence allows use, not
# redistribution.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=out/tensorrt

say() { echo "test-tensorrt-rtx: $*"; }
stop() { printf 'test-tensorrt-rtx: %s\n' "$@" >&2; exit 1; }

# fetch PACKAGE VERSION SHA256: a Python package, unpacked to $folder/PACKAGE-VERSION.
fetch() {
	local to=$folder/$1-$2 download
	[ ! -d "$to" ] || return 0
	say "downloading $1 $2 to $to"
	download=$(mktemp -d)
	echo "$1==$2 --hash=sha256:$3" >"$download/requirements.txt"
	if ! python3 -m pip download --quiet --no-deps --require-hashes --only-binary=:all: --dest "$download" \
		--requirement "$download/requirements.txt" >"$download/log" 2>&1; then
		tail -n 3 "$download/log" >&2
		stop "the download failed or was not what was expected (above). Is this machine offline?" "Its whole output is in $download/log."
	fi
	rm -rf "$to.new"
	mkdir -p "$to.new"
	python3 -m zipfile -e "$download"/*.whl "$to.new"
	rm -rf "$download"
	mv "$to.new" "$to"
}

[ "$(uname -m)" = x86_64 ] || stop "the real libraries are tested on x86_64; this machine is $(uname -m)."
scripts/tensorrt-headers.sh
fetch tensorrt-rtx-cu12-libs 1.6.1.120 3373b82f1e63139f99d572d28a1761cfc79ff3cf33342a1ce0b59a53fea4f01b
fetch tensorrt-lean-cu13-libs 10.16.0.72 711f20dd7a9647f1d8e4f30905aa5eca2583014e321e2d65e00026ca13896eb3
fetch tensorrt-lean-cu13-libs 11.1.0.106 6a4968caea22d333c2eb4507d50f76257dc5ec78a27fb91a9ec600d9543e56bc

# The Makefile's build tags are in GOFLAGS; one more is added to them.
tags=$(sed -n 's/.*-tags=\([^ ]*\).*/\1/p' <<<"${GOFLAGS:-}")
lean=$PWD/$folder/tensorrt-lean-cu13-libs
export GLADD_TENSORRT_RTX_LIBRARY=$PWD/$folder/tensorrt-rtx-cu12-libs-1.6.1.120/tensorrt_rtx_libs/libtensorrt_rtx.so.1
export GLADD_TENSORRT_LEAN_LIBRARIES=$lean-10.16.0.72/tensorrt_lean_libs/libnvinfer_lean.so.10:$lean-11.1.0.106/tensorrt_lean_libs/libnvinfer_lean.so.11
go test -count 1 -v -tags "${tags:+$tags,}tensorrt" -run "^TestRTX" "$@" ./trt ./engines/tensorrt
