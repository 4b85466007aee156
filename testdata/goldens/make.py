"""Makes the test data that other programs' results go into: `make goldens`.

Expected values come from Pillow, OpenCV, SciPy, scikit-learn, ONNX Runtime and a second
implementation of GLAD's arithmetic in NumPy (bench/reference/glad.py), never from gladd.
The data is committed; this is run again only when a case is added.
"""

import pathlib

import graphs
import metrics
import micro
import pictures

ROOT = pathlib.Path(__file__).resolve().parents[2]

if __name__ == "__main__":
    pictures.prepared(ROOT / "pipeline/testdata/prepare")
    pictures.object_masks(ROOT / "pipeline/testdata/objectmask")
    pictures.formats(ROOT / "capture/testdata/formats")
    micro.schedule(ROOT / "pipeline/testdata/alpha_bar.json")
    graphs.broken(ROOT / "engines/testdata/graphs")
    micro.bundle(ROOT / "testdata/micro")
    metrics.cases(ROOT / "daemon/internal/evaluate/testdata/metrics")
