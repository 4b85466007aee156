"""Networks that exist already: tiny ones with random weights, in diffusers' folders and DINO's files."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from safetensors.torch import save_file

from gladd_training import TrainingError, graphs
from gladd_training.export import write_bundle
from gladd_training.main import run
from gladd_training.networks.given import GivenAutoencoder, GivenDino, GivenUNet, embed_prompts, read_embeddings

TRAINING = Path(__file__).parents[1]
GLADD = Path(os.environ.get("GLADD", TRAINING.parent / "bin" / "gladd"))
SIZE, TOKENS, WIDTH = 64, 7, 24


@pytest.fixture(scope="module")
def stable(tmp_path_factory):
    """A folder like Stable Diffusion's: vae, unet, text_encoder, tokenizer."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("stable")
    AutoencoderKL(block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                  layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=SIZE).save_pretrained(folder / "vae")  # fmt: skip
    UNet2DConditionModel(block_out_channels=(16, 16), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                         up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), layers_per_block=1, norm_num_groups=4, attention_head_dim=4,
                         cross_attention_dim=WIDTH, sample_size=SIZE // 8).save_pretrained(folder / "unet")  # fmt: skip
    letters = [c for c in "abcdefghijklmnopqrstuvwxyz"]
    vocabulary = {t: i for i, t in enumerate(letters + [c + "</w>" for c in letters] + ["<|startoftext|>", "<|endoftext|>"])}
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS}))
    CLIPTextModel(CLIPTextConfig(vocab_size=len(vocabulary), hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                                 max_position_embeddings=TOKENS)).save_pretrained(folder / "text_encoder")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def dino_file(tmp_path_factory):
    """A file like DINO's, of ViT-S/16 with two fewer numbers: random weights."""
    torch.manual_seed(2)
    network = GivenDino(None, [(224, 224)], "vit_small", 16)
    state = {name.removeprefix("vit."): value for name, value in network.state_dict().items() if name.startswith("vit.")}
    state["pos_embed"] = network.position_224x224
    path = tmp_path_factory.mktemp("dino") / "dino_deitsmall16_pretrain.pth"
    torch.save(state, path)
    return path


def test_an_autoencoder_s_latents_carry_its_scaling_factor(stable):
    network = GivenAutoencoder(stable / "vae").eval()
    image = torch.rand(1, 3, SIZE, SIZE) * 2 - 1
    with torch.no_grad():
        mean, std = network.encode(image)
        posterior = network.vae.encode(image).latent_dist
        assert torch.allclose(mean, posterior.mean * 0.18215) and torch.allclose(std, posterior.std * 0.18215, rtol=1e-4)
        assert torch.allclose(network.decode(mean), network.vae.decode(mean / 0.18215).sample, atol=1e-5)


def test_guidance_is_diffusers(stable):
    prompts, negative = embed_prompts(stable, ["a photo", ""]).split(1)
    network = GivenUNet(stable / "unet", prompts, negative[0], guidance=9.0).eval()
    sample, timestep = torch.randn(2, 4, 8, 8), torch.tensor([451.0, 451.0])
    with torch.no_grad():
        of = lambda embeddings: network.unet(sample, timestep, encoder_hidden_states=embeddings.expand(2, -1, -1)).sample
        expected = of(negative) + 9.0 * (of(prompts) - of(negative))
        assert torch.allclose(network(sample, timestep), expected, atol=1e-4)
        assert torch.allclose(network.predict(sample, timestep), of(prompts), atol=1e-5)


def test_a_dino_of_another_size_has_interpolated_positions(dino_file):
    network = GivenDino(dino_file, [(224, 224), (64, 96)]).eval()
    with torch.no_grad():
        maps = network(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(1, 384, 4, 6)] * 4
    assert {p.shape[0] for p in network.tuned()} == {384, 1536} and len(network.tuned()) == 16


@pytest.mark.parametrize("half, limit", [(True, 2_000_000_000), (False, 1000)])
def test_given_networks_become_a_bundle_that_the_daemon_runs(stable, dino_file, tmp_path, half, limit):
    features = GivenDino(dino_file, [(SIZE, SIZE)]).eval()
    autoencoder = GivenAutoencoder(stable / "vae").eval()
    prompts, negative = embed_prompts(stable, ["a photo of sks", ""]).split(1)
    modules = {
        "vae_encoder": graphs.Encoder(autoencoder), "unet": GivenUNet(stable / "unet", prompts, negative[0]), "vae_decoder": graphs.Decoder(autoencoder),
        "dino_gate": graphs.Gate(features, (8, 8)), "dino_score": graphs.Score(features, SIZE, pixel_by_maximum=True, sigma=6.0),
    }  # fmt: skip
    manifest = {
        "name": "given", "version": "1.0.0", "image": {"width": SIZE, "height": SIZE}, "latent": {"channels": 4, "width": 8, "height": 8, "encode": "mean"},
        "denoise": {"step": 750, "inference_steps": 5, "min_step": 350, "threshold": 0.3, "gate_top_k": 10},
        "score": {"top_k": 250, "map_size": SIZE, "object_mask": "none"},
    }  # fmt: skip
    images = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)) * 2 - 1
    differences = write_bundle(tmp_path / "bundle", modules, manifest, images, half, limit)
    assert max(differences.values()) < 1e-4
    written = yaml.safe_load((tmp_path / "bundle" / "bundle.yaml").read_text())
    assert ("external_data" in written["graphs"]["unet"]) == (limit == 1000)
    from PIL import Image

    Image.fromarray(np.random.default_rng(4).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(tmp_path / "part.png")
    line = json.loads(subprocess.run([GLADD, "inspect", "--bundle", tmp_path / "bundle", tmp_path / "part.png"], check=True, capture_output=True).stdout)
    assert line["score"] is not None and line["reason"]["code"] == "uncalibrated"


def test_given_networks_are_fine_tuned_by_the_road(stable, dino_file, tmp_path):
    subprocess.run([GLADD, "line", "--out", tmp_path / "parts", "--train", "10", "--good", "0", "--defective", "0", "--size", str(SIZE)], check=True)
    recipe = yaml.safe_load((TRAINING / "recipes" / "tiny.yaml").read_text())
    recipe["autoencoder"] = {"path": str(stable / "vae"), "crop": 48, "steps": 2, "batch": 2}
    recipe["denoiser"] = {"path": str(stable / "unet"), "steps": 2, "batch": 2, "guidance": 2}
    recipe["features"] = {"path": str(dino_file)}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run([str(tmp_path / "recipe.yaml"), "--good", str(tmp_path / "parts" / "train" / "good"), "--out", str(tmp_path / "run"), "--device", "cpu", "--quiet"])
    subprocess.run([GLADD, "inspect", "--bundle", tmp_path / "run" / "bundle", tmp_path / "parts" / "train" / "good" / "0000.png"], check=True)


def test_official_checkpoints_become_a_bundle_as_they_are(stable, dino_file, tmp_path):
    """As GLAD's authors leave them: the UNet in accelerate's pytorch_model.bin, beside Stable Diffusion's folders; nothing is trained."""
    from diffusers import UNet2DConditionModel

    subprocess.run([GLADD, "line", "--out", tmp_path / "parts", "--train", "8", "--good", "0", "--defective", "0", "--size", str(SIZE)], check=True)
    torch.manual_seed(7)
    tuned = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(str(stable / "unet")))
    for name in ("text_encoder", "tokenizer"):
        (tmp_path / name).symlink_to(stable / name)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_bytes((stable / "unet" / "config.json").read_bytes())
    torch.save(tuned.state_dict(), tmp_path / "unet" / "diffusion_pytorch_model.bin")
    recipe = yaml.safe_load((TRAINING / "recipes" / "official.yaml").read_text())
    recipe["image"], recipe["score"]["map_size"] = {"width": SIZE, "height": SIZE}, SIZE
    recipe["autoencoder"].update(path=str(stable / "vae"), crop=64)
    recipe["denoiser"]["path"], recipe["features"]["path"] = str(tmp_path / "unet"), str(dino_file)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    good = tmp_path / "parts" / "train" / "good"
    run([str(tmp_path / "recipe.yaml"), "--good", str(good), "--out", str(tmp_path / "run"), "--device", "cpu", "--quiet"])
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["bundle"]
    session = onnxruntime.InferenceSession(str(tmp_path / "run" / "bundle" / "unet.onnx"))
    sample, timestep = torch.randn(2, 4, 8, 8), torch.tensor([451.0, 451.0])
    prompts, negative = embed_prompts(stable, ["a photo of sks", ""]).split(1)
    with torch.no_grad():
        of = lambda embeddings: tuned(sample, timestep, encoder_hidden_states=embeddings.expand(2, -1, -1)).sample
        expected = of(negative) + 9.0 * (of(prompts) - of(negative))
    found = session.run(None, {"sample": sample.numpy(), "timestep": timestep.numpy()})[0]
    assert np.abs(found - expected.numpy()).max() < 2e-2  # weights are stored as FP16
    subprocess.run([GLADD, "inspect", "--bundle", tmp_path / "run" / "bundle", good / "0000.png"], check=True)


def test_what_is_not_a_network_is_refused(stable, tmp_path):
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    save_file({"prompts": torch.zeros(1, TOKENS, WIDTH)}, tmp_path / "half.safetensors")
    with pytest.raises(TrainingError, match="expected a folder of diffusers with config.json"):
        GivenAutoencoder(tmp_path)
    with pytest.raises(TrainingError, match="not a readable file of weights"):
        GivenDino(tmp_path / "broken.pth", [(SIZE, SIZE)])
    with pytest.raises(TrainingError, match="expected the tensors prompts"):
        read_embeddings(tmp_path / "half.safetensors")
    with pytest.raises(TrainingError, match="expected embeddings of 24 values a token"):
        GivenUNet(stable / "unet", torch.zeros(1, TOKENS, 8), torch.zeros(TOKENS, 8))
