#!/usr/bin/env bash
# Runs a line of one station and shows its verdicts. Called by 'make demo'.
#   BUNDLE  folder of a model; without it bundles/demo, which knows the virtual line's plates
#   DATA    folder of pictures; without it the virtual line's plates
#   COUNT   how many parts, of pictures spread evenly over the folder; 24 without
#           it, 0 for all pictures
set -euo pipefail
cd "$(dirname "$0")/.."

stop() { printf 'demo: %s\n' "$@" >&2; exit 2; }
out=out/demo
count=${COUNT:-24}
[[ $count =~ ^[0-9]+$ ]] || stop "COUNT=$count is not a whole number."

if [ -z "${BUNDLE:-}" ]; then
	[ -z "${DATA:-}" ] || stop "DATA is given without BUNDLE. Name the model's folder too: make demo BUNDLE=DIR DATA=DIR"
	BUNDLE=bundles/demo
fi
[ -e "$BUNDLE/bundle.yaml" ] || stop "BUNDLE=$BUNDLE holds no bundle.yaml."

# The model and the pictures, as links, where the configuration looks for them.
rm -rf "$out"
mkdir -p "$out"
ln -s "$(realpath "$BUNDLE")" "$out/bundle"
camera="virtual:plate?defective=40\\&count=$count"
parts="parts of the virtual line, 40% of them defective"
if [ -n "${DATA:-}" ]; then
	[ -d "$DATA" ] || stop "DATA=$DATA is not a folder."
	mkdir "$out/pictures"
	mapfile -t found < <(cd "$DATA" && find -L . -type f \( -iname '*.png' -o -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.tif' -o -iname '*.tiff' -o -iname '*.bmp' \) \
		-not -path '*/ground_truth/*' -not -path '*/train/*' | sort)
	total=${#found[@]}
	[ "$total" -gt 0 ] || stop "no pictures below $DATA (train and ground_truth folders are left out)."
	if [ "$count" -eq 0 ] || [ "$count" -gt "$total" ]; then count=$total; fi
	for ((i = 0; i < count; i++)); do
		picture=${found[i * total / count]}
		mkdir -p "$out/pictures/$(dirname "$picture")"
		ln -s "$(realpath "$DATA/$picture")" "$out/pictures/$picture"
	done
	camera="folder:../out/demo/pictures"
	parts="of $total pictures below $DATA"
fi
[ "$count" -gt 0 ] || stop "COUNT=0, all pictures, needs DATA: the virtual line has no end."
config=configs/demo.yaml
if ! grep -qF "source: \"${camera//\\/}\"" "$config"; then
	# Beside the original: paths in it are relative to its folder.
	config=$out/demo.yaml
	sed -e "s|source: \".*\"|source: \"$camera\"|" -e 's|\.\./out/demo/||' configs/demo.yaml >"$config"
fi
cat <<END
a line with one station: $config, one part a second
$count $parts, with the model in $BUNDLE
meanwhile, in another terminal:
  mosquitto_sub -p 18830 -v -t 'insp/v1/demo/#'      what the MES gets
  curl http://127.0.0.1:18080/metrics                what Prometheus gets

END

bin/gladd --log-level warn run --config "$config" --print --trace "$out/overlays" --until-finished | tee "$out/verdicts.txt"
if [ -z "${DATA:-}" ]; then
	# The virtual line's names tell what is wrong with a part.
	awk '/ (OK|NotOK) / { total++; good = /good/; if ((good && $3 == "OK") || (!good && $3 == "NotOK")) right++ }
		END { printf "%d of %d verdicts are right\n", right, total }' "$out/verdicts.txt"
fi
cat <<END

below $out:
  overlays/       the parts, their reconstructions and the anomaly maps; for example
                  $(find "$out/overlays" -name '*.overlay.png' | sort | head -n 1)
  ledger.db       the record of every trigger (SQLite)
  images/         the pictures
END
