"""Holds gladd's exact mode against the reference: the same pictures, the same noise, the same number of threads.

    python bench/reference/compare.py --gladd bin/gladd --bundle DIR --data DIR

Both inspect all pictures in turn, gladd, reference, reference, gladd (ABBA), as
often as --rounds says. Prints the time of a picture, reading it left out, and
their ratio with a 95 % interval by bootstrap over runs and pictures; and how far scores and
switches agree. Exits with 1 if one switches elsewhere or differs by more than --tolerance.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

import glad

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--gladd", default="bin/gladd", metavar="FILE", help="the program")
    p.add_argument("--bundle", required=True, type=Path, metavar="DIR", help="the model; one without classes whose latents are means")
    p.add_argument("--data", required=True, type=Path, metavar="DIR", help="pictures, in all folders below")
    p.add_argument("--count", type=int, default=20, metavar="N", help="how many of them, evenly; default 20")
    p.add_argument("--rounds", type=int, default=3, metavar="N", help="how often ABBA; default 3")
    p.add_argument("--threads", type=int, default=0, metavar="N", help="threads of each call; 0: all")
    p.add_argument("--spinning", choices=glad.SPINNING, default="never", help="when the reference's idle threads spin; default never; on: ONNX Runtime's default; in-calls: as gladd has it")
    p.add_argument("--tolerance", type=float, default=1e-4, metavar="SCORE", help="how far scores may differ; default 1e-4")
    return p.parse_args()


def chosen(folder, count):
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS)
    if not found:
        sys.exit(f"compare: {folder}: expected pictures, found none")
    count += 1  # the first of each run is left out
    return [found[i * len(found) // min(count, len(found))] for i in range(min(count, len(found)))]


def by_gladd(o, pictures, noise):
    """(scores, switches, ms) of all pictures but the first, which also warms up."""
    command = [o.gladd, "inspect", "--bundle", o.bundle, "--threads", str(o.threads), "--noise", noise, *pictures]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"compare: {' '.join(map(str, command))} failed:\n{done.stderr}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    ms = [line["timings_ms"]["total"] - line["timings_ms"]["read"] for line in lines]
    return [line["score"] for line in lines][1:], [(line["switch_timestep"], line["switch_reason"]) for line in lines][1:], ms[1:]


def by_reference(model, read, noise):
    scores, switches, ms = [], [], []
    for picture, own in zip(read, noise):
        began = time.perf_counter()
        size = (model.m["image"]["width"], model.m["image"]["height"])
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        found = glad.inspect(model, np.asarray(picture), own)
        ms.append(1000 * (time.perf_counter() - began))
        scores.append(found["score"])
        switches.append((found["switch_timestep"], found["switch_reason"]))
    return scores[1:], switches[1:], ms[1:]


def main():
    o = options()
    manifest = yaml.safe_load((o.bundle / "bundle.yaml").read_text())
    if manifest.get("classes") or manifest["latent"]["encode"] != "mean":
        sys.exit("compare: expected a bundle without classes whose latents are means")
    pictures = chosen(o.data, o.count)
    read = [Image.open(p).convert("RGB") for p in pictures]
    latent = manifest["latent"]
    noise = [np.random.default_rng(i).standard_normal((latent["channels"], latent["height"], latent["width"]), np.float32) for i in range(len(pictures))]
    model = glad.Model(o.bundle, manifest, o.threads, o.spinning)
    times = {"gladd": [], "reference": []}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # One name each: gladd finds a picture's noise by it.
        links = []
        for name in ("pictures", "noise", "bundle"):
            (folder / name).mkdir()
        # Without its calibrations: the reference knows the manifest's gate threshold only.
        for path in o.bundle.iterdir():
            if not path.name.startswith(("calibration", "location")):
                (folder / "bundle" / path.name).symlink_to(path.resolve())
        o.bundle = folder / "bundle"
        for i, (path, own) in enumerate(zip(pictures, noise)):
            links.append(folder / "pictures" / f"{i:04}{path.suffix}")
            links[-1].symlink_to(path.resolve())
            np.save(folder / "noise" / f"{i:04}.npy", own)
        for _ in range(o.rounds):
            for who in ("gladd", "reference", "reference", "gladd"):
                found = by_gladd(o, links, folder / "noise") if who == "gladd" else by_reference(model, read, noise)
                times[who].append(found[2])
                if who == "gladd":
                    mine = found
                else:
                    theirs = found
    others = sum(a != b for a, b in zip(mine[1], theirs[1]))
    difference = max(abs(a - b) for a, b in zip(mine[0], theirs[0]))
    a, b = np.array(times["gladd"]), np.array(times["reference"])  # [runs, pictures]
    random = np.random.default_rng(0)
    ratios = []
    for _ in range(2000):  # runs and pictures are drawn anew: the times of a picture, and of a run, are alike
        runs, some = random.integers(0, a.shape[0], a.shape[0]), random.integers(0, a.shape[1], a.shape[1])
        ratios.append(a[runs][:, some].mean() / b[runs][:, some].mean())
    ratios = np.quantile(ratios, [0.025, 0.975])
    print(f"{a.shape[1]} pictures, {o.rounds} rounds of ABBA, threads {o.threads or 'all'}, reference's idle threads spin: {o.spinning}")
    print(f"gladd, exact   {a.mean():8.1f} ms a picture ({np.quantile(a.mean(1), 0):.1f} to {np.quantile(a.mean(1), 1):.1f} by run)")
    print(f"reference      {b.mean():8.1f} ms a picture ({np.quantile(b.mean(1), 0):.1f} to {np.quantile(b.mean(1), 1):.1f} by run)")
    print(f"ratio          {a.mean() / b.mean():8.4f} ({ratios[0]:.4f} to {ratios[1]:.4f})")
    print(f"scores differ by at most {difference:.2e}; {others} of {a.shape[1]} switch elsewhere")
    sys.exit(bool(others or not difference <= o.tolerance))


if __name__ == "__main__":
    main()
