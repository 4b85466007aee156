#!/usr/bin/env bash
# Runs every fuzz test for some seconds, from its seeds; called by 'make test'. An
# input that fails is left in the package's testdata/fuzz: mend what it found, and
# keep it with the seeds. To look for longer, and go on where it was:
#   go test -run '^$' -fuzz NAME ./PACKAGE
#   FUZZ  how long each is run; 3s without it
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git ls-files '*_test.go' | xargs grep -o '^func Fuzz[A-Za-z]*(' | while IFS=: read -r file function; do
	package=$(dirname "$file")
	name=${function#func }
	name=${name%(}
	go test -c -fuzz "^$name\$" -o "$folder/fuzz.test" "./$package"
	if ! (cd "$package" && "$folder/fuzz.test" -test.run '^$' -test.fuzz "^$name\$" -test.fuzztime "${FUZZ:-3s}" \
		-test.fuzzminimizetime 100x -test.fuzzcachedir "$(mktemp -d -p "$folder")") >"$folder/log" 2>&1; then
		grep -v '^fuzz: elapsed' "$folder/log" >&2
		echo "test-fuzz: $name of $package failed" >&2
		exit 1
	fi
	echo "$package: $name: $(sed -n 's/^fuzz: elapsed.*\(execs: [0-9]*\).*/\1/p' "$folder/log" | tail -n 1)"
done
