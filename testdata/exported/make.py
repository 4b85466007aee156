"""Makes this folder's bundle and the values of expected.json again: a few steps of training of
training/recipes/tiny.yaml on plates of the virtual line, and what torch finds about two of them.

    out/training/env/bin/python testdata/exported/make.py
"""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

from gladd_training import glad
from gladd_training.loop import Run
from gladd_training.pictures import read, to_tensor
from gladd_training.recipe import load
from gladd_training.road import Road

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LATENT = (4, 8, 8)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    recipe = load(ROOT / "training" / "recipes" / "tiny.yaml")
    for name in ("bundle", "images", "noise"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        parts = Path(folder) / "parts"
        subprocess.run([ROOT / "bin" / "gladd", "line", "--out", parts, "--train", "12", "--good", "1", "--defective", "1", "--size", "64", "--seed", "3"], check=True)
        road = Road(recipe, parts / "train" / "good", Run(Path(folder) / "run", recipe.seed, torch.device("cpu"), progress=False))
        road.export(HERE / "bundle", "testdata/exported/make.py")
        modules = road.modules()
        (HERE / "images").mkdir()
        (HERE / "noise").mkdir()
        expected = {}
        for i, picture in enumerate(sorted((parts / "test").rglob("*.png"))):
            name = f"{picture.parent.name}.png"
            shutil.copy(picture, HERE / "images" / name)
            noise = np.random.default_rng(i).standard_normal(LATENT).astype(np.float32)
            np.save(HERE / "noise" / f"{picture.parent.name}.npy", noise)
            found = glad.inspect(modules, to_tensor(read(picture, 64, 64)[None]), torch.from_numpy(noise)[None], recipe.denoise)
            gate = found.gate[0]
            expected[name] = {
                "score": found.scores(recipe.score.top_k).item(),
                "switch_timestep": found.switch_timestep.item(),
                "gate": gate[~gate.isnan()].tolist(),
            }
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
