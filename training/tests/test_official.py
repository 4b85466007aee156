"""The official GLAD configuration at full size, with random weights: Stable Diffusion 1.4's UNet and VAE in
diffusers' folders, DINO's ViT-B/8, 512 pixels, by the documented recipe. Each graph is compared with PyTorch by the
export itself.

Takes up to 20 GB of memory and an hour on two cores: `make test-training-official`.
"""

import json
import os
import resource
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from gladd_training.main import run
from gladd_training.networks.given import GivenDino

TRAINING = Path(__file__).parents[1]
GLADD = Path(os.environ.get("GLADD", TRAINING.parent / "bin" / "gladd"))
SIZE = 512

pytestmark = pytest.mark.skipif(not os.environ.get("GLADD_OFFICIAL"), reason="takes an hour; make test-training-official")


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Folders and files as the official ones, with random weights; eight pictures; the recipe."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    folder = tmp_path_factory.mktemp("official")
    torch.manual_seed(1)
    unet = UNet2DConditionModel(cross_attention_dim=768, sample_size=64)
    assert sum(p.numel() for p in unet.parameters()) > 850e6
    unet.save_pretrained(folder / "unet")
    AutoencoderKL(block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                  layers_per_block=2, latent_channels=4, sample_size=SIZE).save_pretrained(folder / "vae")  # fmt: skip
    network = GivenDino(None, [(224, 224)], "vit_base", 8)
    state = {name.removeprefix("vit."): value for name, value in network.state_dict().items() if name.startswith("vit.")}
    torch.save({**state, "pos_embed": network.position_224x224}, folder / "dino_vitbase8_pretrain.pth")
    save_file({"prompts": torch.randn(1, 77, 768), "negative": torch.randn(77, 768)}, folder / "embeddings.safetensors")
    subprocess.run([GLADD, "line", "--out", folder / "parts", "--train", "8", "--good", "0", "--defective", "0", "--size", str(SIZE)], check=True)
    recipe = yaml.safe_load((TRAINING / "recipes" / "official.yaml").read_text())
    recipe["autoencoder"]["path"] = str(folder / "vae")
    recipe["denoiser"].update(path=str(folder / "unet"), embeddings=str(folder / "embeddings.safetensors"))
    recipe["features"]["path"] = str(folder / "dino_vitbase8_pretrain.pth")
    recipe["denoise"]["inference_steps"] = 2  # of the daemon's one inspection
    return folder, recipe


@pytest.mark.parametrize("half", [True, False])
def test_the_official_networks_become_a_bundle(official, tmp_path, half):
    folder, recipe = official
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "half": half}))
    good = folder / "parts" / "train" / "good"
    run([str(tmp_path / "recipe.yaml"), "--good", str(good), "--out", str(tmp_path), "--device", "cpu"])
    written = yaml.safe_load((tmp_path / "bundle" / "bundle.yaml").read_text())
    differences = written["provenance"]["largest_difference_to_torch"]
    print(differences, "peak memory, GB:", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
    assert len(differences) == 5 and max(differences.values()) < 1e-4
    assert ("external_data" in written["graphs"]["unet"]) == (not half)
    if half:  # the daemon's run takes as long as all else together: once is enough
        found = subprocess.run([GLADD, "inspect", "--bundle", tmp_path / "bundle", good / "0000.png"], check=True, capture_output=True)
        assert json.loads(found.stdout)["score"] is not None
