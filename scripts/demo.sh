#!/usr/bin/env bash
# Runs a line of one station on a folder of pictures and shows its verdicts.
# Called by 'make demo'.
#   BUNDLE  folder of a model; without it the golden test bundle
#   DATA    folder of pictures; without it the golden bundle's
#   COUNT   how many of them, spread evenly over the folder; 24 without it, 0 for all
set -euo pipefail
cd "$(dirname "$0")/.."

stop() { printf 'demo: %s\n' "$@" >&2; exit 2; }
golden=testdata/golden/tiny-a
out=out/demo
count=${COUNT:-24}

if [ -z "${BUNDLE:-}" ]; then
	[ -z "${DATA:-}" ] || stop "DATA is given without BUNDLE. Name the model's folder too: make demo BUNDLE=DIR DATA=DIR"
	BUNDLE=$golden
	DATA=$golden/images
	cat <<-'END'
		This demo runs the golden test bundle. Its networks are RANDOM, all but
		untrained: they show the way from a trigger to a verdict, and that the numbers
		are right. The scores mean nothing, and without a calibration every verdict is
		Undefined. With a trained model: make demo BUNDLE=DIR DATA=DIR

	END
fi
[ -n "${DATA:-}" ] || stop "BUNDLE is given without DATA. Name a folder of pictures too: make demo BUNDLE=DIR DATA=DIR"
[ -d "$DATA" ] || stop "DATA=$DATA is not a folder."
[ -e "$BUNDLE/bundle.yaml" ] || stop "BUNDLE=$BUNDLE holds no bundle.yaml."
[[ $count =~ ^[0-9]+$ ]] || stop "COUNT=$count is not a whole number."

# The model and the pictures, as links, where configs/demo.yaml looks for them.
rm -rf "$out"
mkdir -p "$out/pictures"
ln -s "$(realpath "$BUNDLE")" "$out/bundle"
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
cat <<END
a line with one station: configs/demo.yaml, one part a second
$count of $total pictures below $DATA, with the model in $BUNDLE
meanwhile, in another terminal:
  mosquitto_sub -p 18830 -v -t 'insp/v1/demo/#'      what the MES gets
  curl http://127.0.0.1:18080/metrics                what Prometheus gets

END

bin/gladd --log-level warn run --config configs/demo.yaml --print --trace "$out/overlays" --until-finished
cat <<END

below $out:
  overlays/       the parts, their reconstructions and the anomaly maps; for example
                  $(find "$out/overlays" -name '*.overlay.png' | sort | head -n 1)
  ledger.db       the record of every trigger (SQLite)
  images/         the pictures
END
