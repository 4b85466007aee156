"""Prints what was measured on several backends, as one table.

    python bench/reference/gpu_table.py FOLDER

FOLDER holds a report of gladd bench --json for each of gladd's backends, named as it is, and pytorch.json of
torch_gpu.py; NAME.absent says why one was not run, NAME.failed why one, or a test, failed. The exit code is 1 where
something failed or a call of TensorRT's missed a bar.
"""

import json
import sys
from pathlib import Path

BACKENDS = ("onnxruntime", "onnxruntime-cuda", "tensorrt", "pytorch")
# What a call is named in the tables of a part's stages and of single calls.
CALLS = ("encode", "predict noise", "compare", "reconstruct", "score")


def single(report):
    """ms of each call for one part."""
    if "calls" in report:
        return {call["name"]: call["ms"] for call in report["calls"]}
    return {batch["call"]: batch["ms_each"] for batch in report["batches"] if batch["size"] == 1}


def whole(report):
    return f"{report['plans'][0]['good_ms']['mean']:.1f}" if "plans" in report else "-"


def print_rows(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(widths[0]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)))


def print_gpu(gpu):
    """Prints what TensorRT's calls cost around their engines, and returns the calls that missed a bar."""
    bars = gpu["bars"]
    rows = [["TensorRT, ms", "engines alone", "copies alone", "CUDA graph", "one by one", "whole call",
             f"by events (bar {bars['events']:.2f})", f"end to end (bar {bars['end_to_end']:.2f})"]]
    missed = []
    for call in gpu["calls"]:
        row = [call["call"]]
        for key in ("engines_ms", "copies_ms", "cuda_graph_ms", "one_by_one_ms", "whole_ms"):
            row.append(f"{call[key]:.3f}" if call.get(key) else "none")
        for key in ("events", "end_to_end"):
            passes = call[key] <= bars[key]
            row.append(f"{call[key]:.3f} {'pass' if passes else 'miss'}")
            if not passes:
                missed.append(f"{call['call']}, {key.replace('_', ' ')}: {call[key]:.3f}, bar {bars[key]:.2f}")
        rows.append(row)
    print()
    print_rows(rows)
    print(f"memory in use: {(gpu['bytes'] - gpu['free_bytes']) / 1e9:.2f} GB")
    return missed


def main():
    folder = Path(sys.argv[1])
    reports = {name: json.loads((folder / f"{name}.json").read_text()) for name in BACKENDS if (folder / f"{name}.json").exists()}
    absent, failed = ({path.stem: path.read_text().strip() for path in sorted(folder.glob(f"*.{kind}"))} for kind in ("absent", "failed"))
    missed = []
    if reports:
        rows = [["one call, ms", *reports]]
        for call in CALLS:
            rows.append([call] + [f"{single(report)[call]:.3f}" for report in reports.values()])
        rows.append(["a good part, mode exact", *map(whole, reports.values())])
        print_rows(rows)
        if gpu := reports.get("tensorrt", {}).get("gpu"):
            missed = print_gpu(gpu)
        print()
    for name, report in reports.items():
        print(f"{name}: {report['machine']['library']}, {report['machine']['precision']}")
    for name in BACKENDS:
        if name not in reports and name not in failed:
            print(f"not run: {name}: {absent.get(name, 'it was not tried')}")
    for name, cause in failed.items():
        print(f"failed: {name}: {cause}")
    for call in missed:
        print(f"missed: {call}")
    if failed or missed or not reports:
        sys.exit(1)


if __name__ == "__main__":
    main()
