"""Prints what gladd bench measured on several backends, as one table.

    python bench/reference/gpu_table.py FOLDER

FOLDER holds a report (gladd bench --json) for each backend, named as it is. Backends
without one are named as not run.
"""

import json
import sys
from pathlib import Path

BACKENDS = ("onnxruntime", "onnxruntime-cuda", "tensorrt")


def main():
    folder = Path(sys.argv[1])
    reports = {name: json.loads((folder / f"{name}.json").read_text()) for name in BACKENDS if (folder / f"{name}.json").exists()}
    if not reports:
        sys.exit(f"gpu_table: {folder}: expected reports of gladd bench, found none")
    rows = [["a good part, mode exact, ms"] + list(reports)]
    plans = {name: report["plans"][0] for name, report in reports.items()}
    rows.append(["whole"] + [f"{plan['good_ms']['mean']:.1f}" for plan in plans.values()])
    for i, stage in enumerate(next(iter(plans.values()))["stages"]):
        rows.append([stage["name"]] + [f"{plan['stages'][i]['ms']:.2f}" for plan in plans.values()])
    gpu = reports.get("tensorrt", {}).get("gpu")
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(widths[0]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)))
    if gpu:
        print("\nTensorRT, ms         engines alone  CUDA graph  one by one  whole call")
        for call in gpu["calls"]:
            bare = call["engines_ms"]
            ratio = lambda key: f"{call[key] / bare:.3f}" if call.get(key) else "none"
            print(f"{call['call']:<20}{bare:>14.3f}{ratio('cuda_graph_ms'):>12}{ratio('one_by_one_ms'):>12}{ratio('whole_ms'):>12}")
        print(f"memory in use: {(gpu['bytes'] - gpu['free_bytes']) / 1e9:.2f} GB")
    for report in reports.values():
        print(f"{report['machine']['library']}, {report['machine']['precision']}")
    for name in BACKENDS:
        if name not in reports:
            print(f"not run: {name}")


if __name__ == "__main__":
    main()
