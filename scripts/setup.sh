#!/usr/bin/env bash
# Brings what building and running gladd needs and is not there yet: Debian
# packages, Go modules, and ONNX Runtime's shared library in lib/. Called by make; run
# again, it finds everything in place and does nothing.
#   setup.sh           for building and running
#   setup.sh tests     and for the tests: a broker, systemd's tools, GStreamer's test pictures, networks, file systems
#   setup.sh arm64     and for building and testing for aarch64 on another machine
#   setup.sh training  and for the training package: Python's venv
set -euo pipefail
cd "$(dirname "$0")/.."

# Where Cargo is after its usual installation, on the PATH or not.
PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
go_minimum=1.26
onnxruntime=1.32.0
library=lib/libonnxruntime.so.$onnxruntime

say() { echo "setup: $*"; }
stop() { printf 'setup: %s\n' "$@" >&2; exit 1; }

# Go is the one thing that is not installed here.
command -v go >/dev/null || stop "Go was not found. gladd needs Go $go_minimum or newer, on the PATH." \
	"Install it as its documentation says, then run make again."
go_version=$(GOTOOLCHAIN=local go env GOVERSION) # such as go1.26.8
if [ "$(printf '%s\n' "${go_version#go}" "$go_minimum" | sort -V | head -n 1)" != "$go_minimum" ]; then
	stop "found ${go_version}, but gladd needs Go $go_minimum or newer." "Install it as its documentation says, then run make again."
fi

# Debian packages, each with a file or a command that shows it is there.
missing=()
command -v gcc >/dev/null && command -v g++ >/dev/null || missing+=(gcc g++ libc6-dev)
command -v pkg-config >/dev/null || missing+=(pkg-config)
{ command -v pkg-config >/dev/null && pkg-config --exists opencv4; } || missing+=(libopencv-dev)
if [ -z "${GLADD_ONNXRUNTIME_LIBRARY:-}" ] && [ ! -e "$library" ]; then
	python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
fi
if [ "${1:-}" = tests ]; then
	export PATH=$PATH:/usr/sbin
	command -v mosquitto >/dev/null || missing+=(mosquitto)
	command -v ip >/dev/null || missing+=(iproute2)
	command -v mkfs.ext4 >/dev/null || missing+=(e2fsprogs)
	command -v systemd-analyze >/dev/null || missing+=(systemd)
	ls /usr/lib/*/gstreamer-1.0/libgstvideotestsrc.so >/dev/null 2>&1 || missing+=(gstreamer1.0-plugins-base)
fi
if [ "${1:-}" = arm64 ]; then
	command -v aarch64-linux-gnu-g++ >/dev/null || missing+=(g++-aarch64-linux-gnu)
	command -v qemu-aarch64 >/dev/null || missing+=(qemu-user)
	[[ " ${missing[*]} " = *" python3-pip "* ]] || python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
fi
if [ "${1:-}" = training ]; then
	python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
fi
if [ ${#missing[@]} -gt 0 ]; then
	command -v apt-get >/dev/null || stop "missing: ${missing[*]} (names of Debian's packages)." \
		"This system has no apt-get; install what they hold, then run make again."
	[ "$(id -u)" = 0 ] || stop "missing Debian packages: ${missing[*]}" \
		"Installing them needs root. Run: sudo apt-get install --no-install-recommends ${missing[*]}" "Then run make again."
	say "installing Debian packages: ${missing[*]}"
	log=$(mktemp)
	if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
		tail -n 3 "$log" >&2
		stop "apt-get failed (above). Is this machine offline?" "Its whole output is in $log."
	fi
	rm "$log"
fi

# Go modules, by the digests in go.sum. Only looks where all are there.
log=$(mktemp)
if ! go mod download >"$log" 2>&1; then
	tail -n 3 "$log" >&2
	stop "the Go modules could not be downloaded (above). Is this machine offline?" "Its whole output is in $log."
fi
rm "$log"

# TensorRT's headers: with them gladd is built with TensorRT, which itself is
# looked for at run time.
if command -v cargo >/dev/null; then
	scripts/tensorrt-headers.sh || {
		[ "${1:-}" != tests ] || stop "the tests need TensorRT's headers."
		say "gladd is built without TensorRT."
	}
else
	[ -d lib/tensorrt-headers ] || say "Cargo was not found, which fetches TensorRT's headers: gladd is built without TensorRT."
fi

# A library of the user's own is used as it is.
if [ -n "${GLADD_ONNXRUNTIME_LIBRARY:-}" ]; then
	[ -e "$GLADD_ONNXRUNTIME_LIBRARY" ] || stop "GLADD_ONNXRUNTIME_LIBRARY names $GLADD_ONNXRUNTIME_LIBRARY, which does not exist."
	exit 0
fi

# ONNX Runtime's library is taken from its Python wheel, which pip verifies by
# digest; nothing of Python is used.
case $(uname -m) in
x86_64)
	platform=manylinux_2_28_x86_64
	wheel_sha256=99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8
	library_sha256=6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f
	;;
aarch64)
	platform=manylinux_2_28_aarch64
	wheel_sha256=e36c187006e7a7c8b8d6d57f1a209dd63f52430dca6c282b177718ad6b841054
	library_sha256=49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a
	;;
*)
	stop "gladd's ONNX Runtime library is for x86_64 and aarch64; this machine is $(uname -m)." \
		"Name a library of your own with GLADD_ONNXRUNTIME_LIBRARY."
	;;
esac
intact() { echo "$library_sha256  $1" | sha256sum --check --status; }

if [ ! -e "$library" ] || ! intact "$library"; then
	say "downloading ONNX Runtime $onnxruntime to $library"
	folder=$(mktemp -d)
	trap 'rm -rf "$folder"' EXIT
	echo "onnxruntime==$onnxruntime --hash=sha256:$wheel_sha256" >"$folder/requirements.txt"
	if ! python3 -m pip download --quiet --no-deps --require-hashes --only-binary=:all: --implementation cp --python-version 3.12 \
		--platform "$platform" --dest "$folder" --requirement "$folder/requirements.txt" >"$folder/log" 2>&1; then
		tail -n 3 "$folder/log" >&2
		stop "the download failed or was not what was expected (above). Is this machine offline?" \
			"Without the network, copy $library from another machine, or name a library of your own with GLADD_ONNXRUNTIME_LIBRARY."
	fi
	python3 -m zipfile -e "$folder"/onnxruntime-*.whl "$folder/wheel"
	mkdir -p lib
	cp "$folder/wheel/onnxruntime/capi/libonnxruntime.so.$onnxruntime" "$library.new"
	cp "$folder/wheel/onnxruntime/LICENSE" lib/onnxruntime-LICENSE
	cp "$folder/wheel/onnxruntime/ThirdPartyNotices.txt" lib/onnxruntime-ThirdPartyNotices.txt
	intact "$library.new" || stop "$library.new: expected SHA-256 $library_sha256, found $(sha256sum <"$library.new")"
	mv "$library.new" "$library"
fi
