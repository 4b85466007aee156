"""The whole road, with the real programs: parts of the virtual line, a few steps of each network, the daemon's own eval."""

import json
import math
import os
import subprocess
from pathlib import Path

import onnx
import pytest
import torch
import yaml

from gladd_training import TrainingError
from gladd_training.export import digest
from gladd_training.main import main, run
from gladd_training.networks.features import Teacher, fold_norms
from gladd_training.recipe import Autoencoder, learning_rate, load
from gladd_training.road import spread

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
        ("name: a\ndenoise: {inference_steps: 0}", "denoise.inference_steps: expected 1 to denoise.step, 500, found 0"),
        ("name: a\ndenoise: {step: 1000}", "denoise.noise_step: expected 0 to 999"),
        ("name: a\ndenoise: {gate_top_k: 1025}", "denoise.gate_top_k: expected 1 to 1024"),
        ("name: a\nfinetune: {denoise_step: 1000}", "finetune.denoise_step: expected 1 to 999"),
        ("name: a\nscore: {object_mask: otsu}", "score.object_mask: expected none, otsu_dark or otsu_bright, found 'otsu'"),
        ("name: a\nscore: {sigma: 0}", "score.sigma: expected a number above 0"),
        ("name: a\nfeatures: {heads: 0}", "features.heads: expected a divisor"),
        ("name: a\nfeatures: {own: 2}", "features.own: expected a share"),
        ("name: a\nautoencoder: {lr: fast}", "autoencoder: lr: expected float . None, found 'fast'"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=message):
        load(path)


def test_numbers_as_people_write_them(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: a\nautoencoder: {lr: 1e-4}\nfinetune: {lr: 1}\ndenoiser: {path: x}\n")
    recipe = load(tmp_path / "recipe.yaml")
    assert (recipe.autoencoder.lr, recipe.finetune.lr) == (1e-4, 1.0)
    assert (learning_rate(recipe.denoiser), learning_rate(recipe.features), learning_rate(Autoencoder())) == (5e-6, 1e-3, 1.5e-3)


def test_a_changed_recipe_is_refused_before_training(parts, tmp_path):
    train(parts, tmp_path)
    (tmp_path / "bundle").rename(tmp_path / "first")
    recipe = yaml.safe_load((TRAINING / "recipes" / "tiny.yaml").read_text())
    recipe["denoiser"]["batch"], recipe["finetune"]["steps"] = 3, 4
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(TrainingError) as caught:
        run([str(tmp_path / "recipe.yaml"), "--good", str(parts / "train" / "good"), "--out", str(tmp_path), "--device", "cpu", "--quiet"])
    message = str(caught.value)
    assert "denoiser.batch: 3 now, 4 then" in message and "finetune.steps: 4 now, 3 then" in message
    assert str(tmp_path / "denoiser") in message and str(tmp_path / "finetune") in message and str(tmp_path / "autoencoder") not in message


def test_every_class_is_seen_when_there_are_more_pictures_than_anomalies():
    assert sorted(set(spread(5, 100) // 25)) == [0, 1, 2, 3]
    assert spread(7, 3).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_the_teacher_s_features_are_stored_as_fp16(parts, tmp_path):
    recipe = yaml.safe_load((TRAINING / "recipes" / "tiny.yaml").read_text())
    recipe["features"], recipe["finetune"]["contrast"] = {"network": "teacher", "crop": 64}, 0
    recipe["score"].update(object_mask="otsu_dark", standardise="location")
    recipe["autoencoder"].update(encode="sample", batch=1)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run([str(tmp_path / "recipe.yaml"), "--good", str(parts / "train" / "good"), "--out", str(tmp_path), "--device", "cpu", "--quiet", "--note", "plates"])
    for name in ("dino_score", "vae_decoder"):
        model = onnx.load(tmp_path / "bundle" / f"{name}.onnx")
        large = [i for i in model.graph.initializer if len(i.dims) >= 2 and i.dims[0] > 1 and math.prod(i.dims) >= 64]  # without the channels' means
        assert len(large) > 8 and all(i.data_type == onnx.TensorProto.FLOAT16 for i in large), name
        assert not [n for n in model.graph.node if n.op_type == "BatchNormalization"]
    written = yaml.safe_load((tmp_path / "bundle" / "bundle.yaml").read_text())
    assert written["provenance"]["note"] == "plates" and written["latent"]["encode"] == "sample"
    found = subprocess.run([GLADD, "inspect", "--bundle", tmp_path / "bundle", next((parts / "test" / "good").iterdir())], check=True, capture_output=True)
    assert json.loads(found.stdout)["score"] > 0


def test_folding_norms_changes_nothing():
    network = Teacher()
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    before = network(image)
    fold_norms(network)
    assert not [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for one, two in zip(before, network(image), strict=True):
        assert torch.allclose(one, two, atol=1e-3 * one.abs().max())


def test_a_whole_set_is_no_folder_of_good_parts(parts, tmp_path):
    with pytest.raises(TrainingError, match="found a set with test, ground_truth, train in it"):
        run([str(TRAINING / "recipes" / "tiny.yaml"), "--good", str(parts), "--out", str(tmp_path / "out"), "--device", "cpu", "--quiet"])


def test_what_a_user_can_mend_is_a_message(parts, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    good = str(parts / "train" / "good")
    for out, message in ((str(tmp_path / "file"), "gladd-train: "), (str(tmp_path / "out"), "gladd-train: nothing.yaml")):
        recipe = str(TRAINING / "recipes" / "tiny.yaml") if message == "gladd-train: " else "nothing.yaml"
        monkeypatch.setattr("sys.argv", ["gladd-train", recipe, "--good", good, "--out", out, "--device", "cpu", "--quiet"])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 2 and capsys.readouterr().err.startswith(message)


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "train" / "good").mkdir(parents=True)
    with pytest.raises(TrainingError, match="no pictures"):
        train(tmp_path, tmp_path / "out")
