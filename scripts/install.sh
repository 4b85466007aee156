#!/usr/bin/env bash
# Installs what 'make build' made. Called by 'make install'.
#   install.sh DESTDIR PREFIX
# A configuration that is there already is left as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
destination=$1 prefix=$2

install -D -m 755 bin/gladd "$destination$prefix/bin/gladd"
for library in lib/libonnxruntime.so.*; do
	[ -e "$library" ] || continue # a library of the user's own, named in the configuration
	install -D -m 644 "$library" "$destination$prefix/lib/gladd/$(basename "$library")"
done
for page in docs/*.md; do
	install -D -m 644 "$page" "$destination$prefix/share/doc/gladd/$(basename "$page")"
done
unit=$(mktemp)
trap 'rm -f "$unit"' EXIT
sed "s|/usr/local|$prefix|g" systemd/gladd.service >"$unit"
install -D -m 644 "$unit" "$destination/etc/systemd/system/gladd.service"
configuration=$destination/etc/gladd/gladd.yaml
if [ -e "$configuration" ]; then
	echo "install: $configuration is left as it is"
else
	install -D -m 644 configs/gladd.yaml "$configuration"
fi
cat <<END
installed below $destination$prefix. What is next:
  edit  $configuration
  run   $prefix/bin/gladd config check $configuration
  run   systemctl daemon-reload && systemctl enable --now gladd
END
