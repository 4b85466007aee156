import dataclasses
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from gladd_training import TrainingError, figures, study
from gladd_training.main import run as train
from gladd_training.pictures import read, to_tensor
from gladd_training.recipe import load
from gladd_training.road import Road
from gladd_training.loop import Run

TRAINING = Path(__file__).parents[1]
GLADD = Path(os.environ.get("GLADD", TRAINING.parent / "bin" / "gladd"))
RECIPE = TRAINING / "recipes" / "tiny.yaml"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    subprocess.run([GLADD, "line", "--out", folder / "parts", "--train", "12", "--good", "4", "--defective", "6", "--size", "64", "--seed", "3"], check=True)
    train([str(RECIPE), "--good", str(folder / "parts" / "train" / "good"), "--out", str(folder / "run"), "--device", "cpu", "--quiet"])
    return folder


def test_auroc_is_the_share_of_pairs_in_order():
    assert figures.auroc([1, 2, 3], [2, 4]) == pytest.approx((1.5 + 3) / 6)
    assert figures.auroc([0, 0], [1]) == 1
    low, high = figures.bootstrap(np.arange(50), np.arange(20, 70))
    assert low < figures.auroc(np.arange(50), np.arange(20, 70)) < high
    assert figures.bootstrap([1, 2], [3, 4], other=([1, 2], [3, 4])) == (0, 0)


@pytest.mark.parametrize("threshold", [0.0, 1e-4, 0.2])
def test_torch_inspects_as_the_daemon_does(trained, tmp_path, threshold):
    recipe = load(RECIPE)
    recipe.denoise.threshold = threshold
    road = Road(recipe, trained / "parts" / "train" / "good", Run(trained / "run", recipe.seed, torch.device("cpu"), progress=False))
    road.export(tmp_path / "bundle", "test")
    part = next((trained / "parts" / "test" / "good").iterdir())
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    (tmp_path / "noise").mkdir()
    np.save(tmp_path / "noise" / f"{part.stem}.npy", noise[0].numpy())
    found = subprocess.run([GLADD, "inspect", "--bundle", tmp_path / "bundle", "--noise", tmp_path / "noise", part], check=True, capture_output=True)
    line = json.loads(found.stdout)
    mine = study.glad.inspect(road.modules(), to_tensor(read(part, 64, 64)[None]), noise, recipe.denoise)
    assert mine.switch_timestep.item() == line["switch_timestep"]
    compared = mine.gate[0][~mine.gate[0].isnan()].tolist()
    assert compared == pytest.approx([g["score"] for g in line["gate"]], abs=1e-4)
    assert mine.scores(recipe.score.top_k).item() == pytest.approx(line["score"], abs=1e-4)


def test_an_open_gate_threshold_is_learned(trained):
    recipe = load(RECIPE)
    recipe.denoise.threshold = None
    road = Road(recipe, trained / "parts" / "train" / "good", Run(trained / "run", recipe.seed, torch.device("cpu"), progress=False))
    modules = road.modules()
    learned = road.denoise(modules)

    def highest(threshold):
        denoise = dataclasses.replace(learned, threshold=threshold)
        return np.concatenate([np.nanmax(found.gate.numpy(), 1) for found in study.glad.inspect_all(modules, road.good, denoise, shown=False)])

    assert learned.threshold == pytest.approx(highest(study.glad.NEVER).max(), rel=1e-6)
    middle = float(np.sort(highest(study.glad.NEVER))[5])
    assert (highest(middle) > middle).sum() == (highest(study.glad.NEVER) > middle).sum() > 0


def test_studies_give_their_rows(trained, capsys):
    common = [str(RECIPE), "--good", str(trained / "parts" / "train" / "good"), "--run", str(trained / "run"), "--held-out", str(trained / "parts" / "test" / "good"), "--count", "4"]
    rows = study.run(["settings", *common, "--steps", "300,500", "--min-steps", "250,400"])
    assert [(r["step"], r["min_step"]) for r in rows] == [(300, 250), (500, 250), (500, 400)]
    assert all(0 <= r["image_auroc"] <= 1 and 0 <= r["pixel_auroc"] <= 1 for r in rows)
    rows = study.run(["ablation", *common, "--data", str(trained / "parts"), "--plain", str(RECIPE), str(trained / "run")])
    assert len(rows) == 9 and rows[0]["scores"] == rows[3]["scores"] and rows[2]["scores"] == rows[5]["scores"]
    assert rows[5]["difference"] == rows[2]["difference"] == (0, 0)


def test_the_score_grid_scores_as_the_bundle_does(trained):
    recipe = load(RECIPE)
    common = [str(RECIPE), "--good", str(trained / "parts" / "train" / "good"), "--run", str(trained / "run")]
    held_out = ["--held-out", str(trained / "parts" / "test" / "good"), "--count", "4"]
    grid = ["--distances", "nearest", "--pixels", f"0,{recipe.score.pixel}", "--sigmas", str(recipe.score.sigma), "--top-ks", f"10,{recipe.score.top_k}"]
    rows = study.run(["score", *common, *grid, "--data", str(trained / "parts")])
    assert [(r["pixel"], r["top_k"]) for r in rows] == [(0, 10), (0, recipe.score.top_k), (recipe.score.pixel, 10), (recipe.score.pixel, recipe.score.top_k)]
    road = Road(recipe, trained / "parts" / "train" / "good", Run(trained / "run", recipe.seed, torch.device("cpu"), progress=False))
    modules = road.modules()
    scores, _, _ = study.measure(modules, study.read_labelled(trained / "parts", 64, 64), road.denoise(modules), recipe.score.top_k)
    assert rows[3]["scores"] == pytest.approx(scores.tolist(), rel=1e-4)
    assert rows[0]["scores"] != rows[2]["scores"]
    rows = study.run(["score", *common, *held_out, "--pixels", "1", "--sigmas", str(recipe.score.sigma), "--top-ks", "10"])
    assert [r["recipe"] for r in rows].count("*") == 1, "the recipe's own settings are among them"
    nearest, place = (next(r for r in rows if r["distance"] == d and r["pixel"] == 1 and r["top_k"] == 10) for d in ("nearest", "place"))
    assert (nearest["distance"], place["distance"]) == ("nearest", "place") and len(nearest["scores"]) == 8 and nearest["scores"] != place["scores"]
    with pytest.raises(TrainingError, match="--distances: expected nearest, place"):
        study.run(["score", *common, *held_out, "--distances", "far"])
    with pytest.raises(TrainingError, match="--top-ks: expected numbers 1 to 4096, found 5000"):
        study.run(["score", *common, *held_out, "--top-ks", "5000"])
    with pytest.raises(TrainingError, match="--sigmas: expected numbers above 0"):
        study.run(["score", *common, *held_out, "--sigmas", "900"])
    with pytest.raises(TrainingError, match="--steps: expected numbers 1 to 1000"):
        study.run(["settings", *common, *held_out, "--steps", "2000"])
    with pytest.raises(TrainingError, match="found 4 of 4 there"):
        study.run(["settings", *common, "--held-out", str(trained / "parts" / "train" / "good"), "--count", "4"])
    with pytest.raises(TrainingError, match="--threads: expected a number of at least 0"):
        study.run(["settings", *common, *held_out, "--threads", "-1"])
    with pytest.raises(TrainingError, match="--top-ks: expected numbers, comma"):
        study.run(["score", *common, *held_out, "--top-ks", "ten"])
    with pytest.raises(TrainingError, match="either --held-out or --data"):
        study.run(["score", *common])


def test_a_study_trains_nothing(trained, tmp_path):
    common = ["--good", str(trained / "parts" / "train" / "good"), "--held-out", str(trained / "parts" / "test" / "good")]
    with pytest.raises(TrainingError, match="not so: autoencoder, denoiser, finetune, features"):
        study.run(["settings", str(RECIPE), *common, "--run", str(tmp_path / "mistyped")])
    (tmp_path / "several.yaml").write_text("name: a\nclasses: [plate, cap]\n")
    with pytest.raises(TrainingError, match="expected a recipe without classes"):
        study.run(["settings", str(tmp_path / "several.yaml"), *common, "--run", str(trained / "run")])
    with pytest.raises(TrainingError, match="at most a step of --steps"):
        study.run(["settings", str(RECIPE), *common, "--run", str(trained / "run"), "--count", "4", "--steps", "300", "--min-steps", "400"])
    with pytest.raises(TrainingError, match="a folder for each kind of defect"):
        (tmp_path / "set" / "test" / "good").mkdir(parents=True)
        study.read_labelled(tmp_path / "set", 64, 64)


def test_masks_of_any_size_meet_the_map():
    labelled = study.Labelled(np.zeros((2, 96, 192, 3), np.uint8), np.array([False, True]), ["good", "hole"], np.zeros((2, 96, 192), bool))
    labelled.masks[1, 48:, 96:] = True
    for side in (16, 64, 256):
        maps = np.zeros((2, side, side), np.float16)
        maps[1, side // 2 :, side // 2 :] = 1
        assert study.figures(labelled, np.array([0.0, 1.0]), maps)["pixel_auroc"] == 1


def test_rows_are_compared_on_the_same_parts():
    bad = np.arange(40) >= 20
    rows = [{"name": "all", "scores": list(range(40))}, {"name": "none", "scores": [1] * 40}]
    study.compare(rows, bad, "all")
    assert rows[0]["difference"] == (0, 0) and rows[1]["difference"] == (-0.5, -0.5)


def test_the_nearest_neighbour_of_a_known_part_is_itself(trained):
    parts = str(trained / "parts" / "train" / "good")
    rows = study.run(["nearest", "--good", parts, "--data", str(trained / "parts"), "--size", "64", "--bank", "4000"])
    assert 0 <= rows[0]["image_auroc"] <= 1 and rows[0]["kinds"]
    good = np.stack([read(p, 64, 64) for p in sorted(Path(parts).iterdir())])
    assert study.Nearest(good, 1).map(good[0]).max() < 0.05
