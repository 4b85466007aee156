"""Prints what was measured on several backends, as one table.

    python bench/reference/gpu_table.py FOLDER

FOLDER holds a report of gladd bench --json for each of gladd's backends, named as it is, and pytorch.json of
torch_gpu.py. What has none is named as not run.
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


def main():
    folder = Path(sys.argv[1])
    reports = {name: json.loads((folder / f"{name}.json").read_text()) for name in BACKENDS if (folder / f"{name}.json").exists()}
    if not reports:
        sys.exit(f"gpu_table: {folder}: expected reports of gladd bench, found none")
    rows = [["one call, ms", *reports]]
    for call in CALLS:
        rows.append([call] + [f"{single(report)[call]:.3f}" for report in reports.values()])
    whole = lambda report: f"{report['plans'][0]['good_ms']['mean']:.1f}" if "plans" in report else "-"
    rows.append(["a good part, mode exact", *map(whole, reports.values())])
    gpu = reports.get("tensorrt", {}).get("gpu")
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(widths[0]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)))
    if gpu:
        print("\nTensorRT             engines alone, ms  CUDA graph  one by one  whole call (beside the engines alone)")
        for call in gpu["calls"]:
            bare = call["engines_ms"]
            ratio = lambda key: f"{call[key] / bare:.3f}" if call.get(key) else "none"
            print(f"{call['call']:<20}{bare:>18.3f}{ratio('cuda_graph_ms'):>12}{ratio('one_by_one_ms'):>12}{ratio('whole_ms'):>12}")
        print(f"memory in use: {(gpu['bytes'] - gpu['free_bytes']) / 1e9:.2f} GB")
    print()
    for name, report in reports.items():
        print(f"{name}: {report['machine']['library']}, {report['machine']['precision']}")
    for name in BACKENDS:
        if name not in reports:
            print(f"not run: {name}")


if __name__ == "__main__":
    main()
