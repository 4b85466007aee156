#!/usr/bin/env bash
# Brings TensorRT's headers to lib/tensorrt-headers, for builds with the tag
# tensorrt: 10 and 11 of TensorRT Enterprise, rtx of TensorRT for RTX. They are
# in Rust packages that Cargo fetches by the digests in Cargo.lock; nothing of
# Rust is built. Run again, it finds everything in place and does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

# Where Cargo is after its usual installation, on the PATH or not.
PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
target=lib/tensorrt-headers

say() { echo "tensorrt-headers: $*"; }
stop() { printf 'tensorrt-headers: %s\n' "$@" >&2; exit 1; }

# Folder, Cargo project, folder in the package, digest of the headers.
headers=(
	"10 10 TRT-Enterprise-10.16 9159cf13c5ee434b6d3794f0f56caa2b80f5b94a22b7f2c5bec504e2df2508c6"
	"11 11 TRT-Enterprise-11.1 c3014b7d8b9f1cd2311bfbba5c2fc7180868f13d4c6c363d027b82fc59e26eb7"
	"rtx 11 TRT-RTX-1.6 333c37f8e6e3fa9197a4f204bc80dc2fdc288ff2b451dc2fe84673e9d7adc7a8"
)

# digest FOLDER: of the names and contents of all headers in it.
digest() { (cd "$1" && find . -name '*.h' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1); }

for entry in "${headers[@]}"; do
	read -r name project source expected <<<"$entry"
	if [ -d "$target/$name" ] && [ "$(digest "$target/$name")" = "$expected" ]; then
		continue
	fi
	command -v cargo >/dev/null || stop "TensorRT's headers are missing in $target/$name, and Cargo, which fetches them, was not found." \
		"Install Cargo 1.85 or newer (as documented by Rust), or copy $target from another machine," \
		"or build gladd without the tag tensorrt."
	say "fetching the headers of $source to $target/$name"
	log=$(mktemp)
	if ! (cd "trt/headers/$project" && cargo fetch --locked) >"$log" 2>&1; then
		tail -n 3 "$log" >&2
		stop "cargo fetch failed in trt/headers/$project (above). Is this machine offline?" "Its whole output is in $log."
	fi
	rm "$log"
	manifest=$(cd "trt/headers/$project" && cargo metadata --locked --offline --format-version 1 |
		grep -o '"manifest_path":"[^"]*/trtx-sys-[^"]*"' | head -n 1 | cut -d '"' -f 4)
	[ -n "$manifest" ] || stop "cargo metadata names no folder of trtx-sys in trt/headers/$project."
	from=$(dirname "$manifest")/TensorRT-Headers/$source
	[ -d "$from" ] || stop "expected the folder $from, which is not in the package."
	found=$(digest "$from")
	[ "$found" = "$expected" ] || stop "$from: expected headers with the digest $expected, found $found."
	mkdir -p "$target"
	rm -rf "${target:?}/$name" "$target/$name.new"
	cp -r "$from" "$target/$name.new"
	mv "$target/$name.new" "$target/$name"
done
