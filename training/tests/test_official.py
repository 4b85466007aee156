"""The official GLAD configuration at full size, with random weights: Stable Diffusion 1.4's UNet and VAE in
diffusers' folders, DINO's ViT-B/8, 512 pixels. Each graph is compared with PyTorch by the export itself.

Takes about 12 GB of memory and half an hour on two cores: `make test-training-official`.
"""

import json
import os
import resource
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from gladd_training import export, graphs
from gladd_training.networks.given import GivenAutoencoder, GivenDino, GivenUNet

GLADD = Path(os.environ.get("GLADD", Path(__file__).parents[2] / "bin" / "gladd"))
SIZE = 512


@pytest.mark.skipif(not os.environ.get("GLADD_OFFICIAL"), reason="takes half an hour; make test-training-official")
@pytest.mark.parametrize("half", [True, False])
def test_the_official_networks_become_a_bundle(tmp_path, half):
    from diffusers import AutoencoderKL, UNet2DConditionModel

    torch.manual_seed(1)
    UNet2DConditionModel(cross_attention_dim=768, sample_size=64).save_pretrained(tmp_path / "unet")
    AutoencoderKL(block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                  layers_per_block=2, latent_channels=4, sample_size=SIZE).save_pretrained(tmp_path / "vae")  # fmt: skip
    features = GivenDino(None, [(SIZE, SIZE)], "vit_base", 8).eval()
    autoencoder = GivenAutoencoder(tmp_path / "vae").eval()
    prompts, negative = torch.randn(1, 77, 768), torch.randn(77, 768)
    size = tuple(n // 8 for n in (SIZE, SIZE))
    makers = {
        "vae_encoder": lambda: graphs.Encoder(autoencoder), "vae_decoder": lambda: graphs.Decoder(autoencoder),
        "dino_gate": lambda: graphs.Gate(features, size), "dino_score": lambda: graphs.Score(features, SIZE, pixel=0.2, pixel_by_maximum=True, sigma=6.0),
        "unet": lambda: GivenUNet(tmp_path / "unet", prompts, negative),
    }  # fmt: skip
    images = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)) * 2 - 1
    manifest = {
        "name": "official", "version": "1.0.0", "image": {"width": SIZE, "height": SIZE}, "latent": {"channels": 4, "width": 64, "height": 64, "encode": "mean"},
        "denoise": {"step": 500, "inference_steps": 2, "min_step": 350, "threshold": 0.3, "gate_top_k": 10},
        "score": {"top_k": 250, "map_size": SIZE, "object_mask": "none"},
    }  # fmt: skip
    modules = {name: make() for name, make in makers.items()}
    assert sum(p.numel() for p in modules["unet"].parameters()) > 850e6
    differences = export.write_bundle(tmp_path / "bundle", modules, manifest, images, half, batches=(1, 2))
    print(differences, "peak memory, GB:", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
    assert max(differences.values()) < 1e-4
    written = yaml.safe_load((tmp_path / "bundle" / "bundle.yaml").read_text())
    assert ("external_data" in written["graphs"]["unet"]) == (not half)
    del modules, autoencoder, features
    if not half:
        return  # the daemon's run takes as long as all else together: once is enough
    from PIL import Image

    Image.fromarray(np.random.default_rng(4).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(tmp_path / "part.png")
    found = subprocess.run([GLADD, "inspect", "--bundle", tmp_path / "bundle", tmp_path / "part.png"], check=True, capture_output=True)
    assert json.loads(found.stdout)["score"] is not None
