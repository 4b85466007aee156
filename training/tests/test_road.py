"""The whole road, with the real programs: parts of the virtual line, a few steps of each network, the daemon's own eval."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from gladd_training import TrainingError
from gladd_training.export import digest
from gladd_training.main import run
from gladd_training.recipe import load

TRAINING = Path(__file__).parents[1]
GLADD = Path(os.environ.get("GLADD", TRAINING.parent / "bin" / "gladd"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    assert GLADD.exists(), f"{GLADD} is missing: make build"
    folder = tmp_path_factory.mktemp("parts") / "plate"
    subprocess.run([GLADD, "line", "--out", folder, "--train", "12", "--good", "4", "--defective", "4", "--size", "64", "--seed", "3"], check=True)
    return folder


def train(parts, out):
    run([str(TRAINING / "recipes" / "tiny.yaml"), "--good", str(parts / "train" / "good"), "--out", str(out), "--device", "cpu", "--quiet"])


def test_from_pictures_to_figures(parts, tmp_path):
    train(parts, tmp_path)
    subprocess.run([GLADD, "eval", "--bundle", tmp_path / "bundle", "--data", parts, "--out", tmp_path / "eval"], check=True)
    metrics = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert 0 <= metrics["mean"]["image_auroc"] <= 1
    # Sheets and logs are there to look at.
    for stage in ("autoencoder", "denoiser", "finetune"):
        assert list((tmp_path / stage).glob("sheet-*.png"))
    for stage in ("autoencoder", "denoiser", "features", "finetune"):
        assert list((tmp_path / stage / "log").glob("events.*"))


def test_the_same_seed_gives_the_same_bundle(parts, tmp_path):
    for name in ("one", "two"):
        train(parts, tmp_path / name)
    for graph in ("vae_encoder", "unet", "vae_decoder", "dino_gate", "dino_score"):
        one, two = (digest(tmp_path / name / "bundle" / f"{graph}.onnx") for name in ("one", "two"))
        assert one == two, graph


def test_one_unet_for_several_classes(tmp_path):
    for part in ("plate", "cap"):
        subprocess.run([GLADD, "line", "--out", tmp_path / part, "--part", part, "--train", "9", "--good", "0", "--defective", "0", "--size", "64"], check=True)
        (tmp_path / "good" / part).parent.mkdir(exist_ok=True)
        (tmp_path / part / "train" / "good").rename(tmp_path / "good" / part)
    recipe = yaml.safe_load((TRAINING / "recipes" / "tiny.yaml").read_text())
    recipe["classes"] = ["plate", "cap"]
    recipe["features"]["method"] = "dino"
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run([str(tmp_path / "recipe.yaml"), "--good", str(tmp_path / "good"), "--out", str(tmp_path / "run"), "--device", "cpu", "--quiet"])
    scores = {}
    for name in ("plate", "cap"):
        found = subprocess.run([GLADD, "inspect", "--bundle", tmp_path / "run" / "bundle", "--class", name, tmp_path / "good" / "plate" / "0000.png"], check=True, capture_output=True)
        scores[name] = json.loads(found.stdout)["score"]
    assert scores["plate"] != scores["cap"]  # the class reaches the UNet


def test_a_class_without_pictures_is_refused(parts, tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: a\nclasses: [plate, cap]\n")
    with pytest.raises(TrainingError, match="plate: expected a folder of pictures"):
        run([str(tmp_path / "recipe.yaml"), "--good", str(parts / "train" / "good"), "--out", str(tmp_path / "out"), "--device", "cpu", "--quiet"])


def test_a_bundle_that_is_there_is_refused_before_training(parts, tmp_path):
    (tmp_path / "bundle").mkdir(parents=True)
    with pytest.raises(TrainingError, match="never changes"):
        train(parts, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("name: a\nstep: 3", "unknown key 'step'"),
        ("version: '1'", "name is missing"),
        ("name: a\nseed: x", "seed: expected int, found 'x'"),
        ("name: a\nimage: {width: 100}", "image.width: expected a multiple of 64, found 100"),
        ("name: a\nautoencoder: {crop: 512}", "autoencoder.crop: expected a multiple of 16, at most 256, found 512"),
        ("- a", "expected keys and values"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=message):
        load(path)


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "train" / "good").mkdir(parents=True)
    with pytest.raises(TrainingError, match="no pictures"):
        train(tmp_path, tmp_path / "out")
