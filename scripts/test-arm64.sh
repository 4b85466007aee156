#!/usr/bin/env bash
# Tests gladd for the boxes' processors, aarch64, on another machine: Debian's
# cross compiler compiles it, qemu-user runs it. What it needs and brings lies in
# out/arm64; of the system it only installs the compiler and qemu. Run again, it
# finds everything in place.
#   test-arm64.sh           both of the following
#   test-arm64.sh packages  tests of the shims, the CUDA layer and the engines, with fakes
#   test-arm64.sh binary    builds gladd and lets it inspect the golden bundle's pictures
set -euo pipefail
cd "$(dirname "$0")/.."

out=out/arm64
say() { echo "test-arm64: $*"; }
stop() { printf 'test-arm64: %s\n' "$@" >&2; exit 1; }

what=${1:-all}
case $what in all | packages | binary) ;; *) stop "expected packages, binary or nothing, found $what." ;; esac
[ "$(uname -m)" != aarch64 ] || stop "this machine is aarch64 itself: run make test."

scripts/setup.sh arm64
scripts/tensorrt-headers.sh

# ONNX Runtime's library, as setup.sh brings it on an aarch64; versions and digests
# are read from there, so that they stand in one place.
pinned() { sed -n "/^aarch64)/,/;;/ s/^[[:space:]]*$1=//p" scripts/setup.sh; }
onnxruntime=$(sed -n 's/^onnxruntime=//p' scripts/setup.sh)
platform=$(pinned platform) wheel_sha256=$(pinned wheel_sha256) library_sha256=$(pinned library_sha256)
[ -n "$onnxruntime$platform" ] && [ ${#wheel_sha256} = 64 ] && [ ${#library_sha256} = 64 ] ||
	stop "scripts/setup.sh: expected onnxruntime=, and platform=, wheel_sha256= and library_sha256= of aarch64, found" \
		"$onnxruntime, $platform, $wheel_sha256, $library_sha256."
library=$out/libonnxruntime.so.$onnxruntime
intact() { echo "$library_sha256  $1" | sha256sum --check --status; }
if [ ! -e "$library" ] || ! intact "$library"; then
	say "downloading ONNX Runtime $onnxruntime for aarch64 to $library"
	folder=$(mktemp -d)
	trap 'rm -rf "$folder"' EXIT
	echo "onnxruntime==$onnxruntime --hash=sha256:$wheel_sha256" >"$folder/requirements.txt"
	if ! python3 -m pip download --quiet --no-deps --require-hashes --only-binary=:all: --implementation cp --python-version 3.12 \
		--platform "$platform" --dest "$folder" --requirement "$folder/requirements.txt" >"$folder/log" 2>&1; then
		tail -n 3 "$folder/log" >&2
		stop "the download failed or was not what was expected (above). Is this machine offline?"
	fi
	python3 -m zipfile -e "$folder"/onnxruntime-*.whl "$folder/wheel"
	mkdir -p "$out"
	cp "$folder/wheel/onnxruntime/capi/libonnxruntime.so.$onnxruntime" "$library.new"
	intact "$library.new" || stop "$library.new: expected SHA-256 $library_sha256, found $(sha256sum <"$library.new")"
	mv "$library.new" "$library"
fi

# processor ROOT: qemu's user mode shows programs this machine's /proc/cpuinfo and
# /sys, and ONNX Runtime crashes on those of another kind. Files below its root come
# first. The processor is the nearest that Debian 12's qemu has to an Orin's
# Cortex-A78AE: the same instructions (Armv8.2 with FP16 and dot products).
processor() {
	local number
	mkdir -p "$1/proc" "$1/sys/devices/system/cpu"
	echo 0-1 | tee "$1/sys/devices/system/cpu/possible" >"$1/sys/devices/system/cpu/present"
	for number in 0 1; do
		printf '%s\t: %s\n' processor $number BogoMIPS 62.50 \
			Features 'fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp' \
			'CPU implementer' 0x41 'CPU architecture' 8 'CPU variant' 0x4 'CPU part' 0xd0b 'CPU revision' 1
		echo
	done >"$1/proc/cpuinfo"
}

# The last -tags counts. The tests compile their fakes by CC and CXX.
export CGO_ENABLED=1 GOARCH=arm64 CC=aarch64-linux-gnu-gcc CXX=aarch64-linux-gnu-g++
export GOFLAGS="${GOFLAGS:-} -buildvcs=false -tags=gocv_specific_modules,gocv_videoio,tensorrt"
export CGO_CFLAGS="${CGO_CFLAGS:--O2 -g -Wno-deprecated-declarations}"
export QEMU_CPU=cortex-a76
export GLADD_ONNXRUNTIME_LIBRARY=$PWD/$library

test_packages() {
	local root=$out/root
	mkdir -p "$root"
	ln -sfn /usr/aarch64-linux-gnu/lib "$root/lib" # the cross compiler's C and C++ libraries
	processor "$root"
	say "tests of the shims, the CUDA layer and the engines, built for aarch64"
	go vet ./trt/... ./engines ./engines/mixed ./engines/tensorrt ./pipeline
	QEMU_LD_PREFIX=$PWD/$root go test -exec qemu-aarch64 -short -timeout 20m \
		./trt/... ./engines ./engines/tensorrt ./pipeline
}

# OpenCV's libraries and all that they need. Debian's packages for two processors
# cannot all be installed side by side, so they are only unpacked, by an apt with
# state of its own; the system's knows nothing of them.
packages="libopencv-videoio406 libopencv-imgcodecs406 libstdc++6"

unpack_libraries() {
	local root=$1 apt=$PWD/$out/apt package log=$PWD/$out/apt.log
	[ "$(cat "$root/unpacked" 2>/dev/null)" != "$packages" ] || return 0
	say "downloading OpenCV for aarch64 and what it needs, 140 MB, and unpacking it to $root"
	rm -rf "$root" "$apt"
	mkdir -p "$root" "$apt/lists/partial" "$apt/archives/partial"
	touch "$apt/status"
	cat >"$apt/conf" <<-END
		APT::Architecture "arm64";
		APT::Architectures { "arm64"; };
		APT::Install-Recommends "false";
		APT::Sandbox::User "$(id -un)";
		Dir::State "$apt";
		Dir::State::status "$apt/status";
		Dir::Cache "$apt";
		Dir::Cache::pkgcache "";
		Dir::Cache::srcpkgcache "";
	END
	# The packages are many and small, and one apt-get fetches one after the other.
	# Those for all processors hold no libraries.
	# shellcheck disable=SC2086 # a list
	if ! (
		export APT_CONFIG=$apt/conf
		apt-get update && apt-get install --simulate $packages >"$apt/wanted" && cd "$apt/archives" &&
			sed -n 's/^Inst \([^ ]*\) (\([^ ]*\) .*\[arm64\].*/\1=\2/p' "$apt/wanted" | xargs -n 16 -P 8 apt-get download
	) >"$log" 2>&1; then
		grep '^E:' "$log" | tail -n 3 >&2 || true
		stop "apt-get failed (above). Is this machine offline?" "Its whole output is in $log."
	fi
	for package in "$apt"/archives/*.deb; do
		dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --exclude=./etc --exclude=./usr/bin --exclude=./usr/share --exclude=./var
	done
	# What the packages' scripts do when they are installed.
	ln -s blas/libblas.so.3 lapack/liblapack.so.3 "$root/usr/lib/aarch64-linux-gnu/"
	echo "$packages" >"$root/unpacked"
	rm -rf "$apt"
}

test_binary() {
	local root=$PWD/$out/debian folder name libraries=()
	command -v pkg-config >/dev/null && [ "$(GOARCH='' pkg-config --modversion opencv4 2>/dev/null)" = 4.6.0 ] ||
		stop "OpenCV 4.6.0's headers were not found, which are those of Debian 12's libopencv-dev; scripts/setup.sh installs it."
	unpack_libraries "$root"
	processor "$root"
	# OpenCV's headers are the same for all processors. Its libraries are named to the
	# linker only: Go's cache keeps what pkg-config says, and this folder may move.
	folder=$root/usr/lib/aarch64-linux-gnu
	cat >"$out/opencv4.pc" <<-END
		Name: OpenCV
		Description: the headers, for aarch64
		Version: 4.6.0
		Cflags: $(pkg-config --cflags opencv4)
		Libs:
	END
	say "building gladd for aarch64"
	for name in videoio imgcodecs imgproc core; do
		libraries+=("'$folder/libopencv_$name.so.406'")
	done
	PKG_CONFIG_LIBDIR=$PWD/$out go build -o "$out/gladd" -ldflags "-extldflags \"${libraries[*]} \
		'-Wl,-rpath-link=$folder:$root/lib/aarch64-linux-gnu:$root/usr/lib:$folder/pulseaudio'\"" ./daemon

	say "running it"
	export QEMU_LD_PREFIX=$root
	qemu-aarch64 "$out/gladd" version
	golden=testdata/golden/tiny-a
	qemu-aarch64 "$out/gladd" inspect --bundle "$golden" --backend onnxruntime --noise "$golden/noise" "$golden/images" >"$out/inspected.jsonl"
	python3 - "$golden/golden.json" "$out/inspected.jsonl" <<-'END' || stop "gladd does not compute on aarch64 what the official code does."
		import json, sys
		from pathlib import Path
		golden = json.loads(Path(sys.argv[1]).read_text())
		lines = [json.loads(line) for line in Path(sys.argv[2]).read_text().splitlines()]
		assert len(lines) == len(golden["images"]), len(lines)
		for line in lines:
		    want = golden["images"][Path(line["image"]).stem]
		    found = line["switch_timestep"], line["switch_reason"], line["score"]
		    print(Path(line["image"]).name, *found)
		    assert found[:2] == (want["switch_timestep"], want["switch_reason"]), want
		    assert abs(found[2] - want["score"]) <= golden["tolerance"]["score_abs"], want
	END
}

mkdir -p "$out"
[ "$what" = binary ] || test_packages
[ "$what" = packages ] || test_binary
say "passed"
