import numpy as np
import pytest
import torch
import yaml

from gladd_training import TrainingError, graphs
from gladd_training.export import digest, write_bundle
from gladd_training.networks.autoencoder import Autoencoder
from gladd_training.networks.features import Vit
from gladd_training.networks.unet import UNet

SIZE = 64
MANIFEST = {
    "name": "tiny", "version": "1.0.0", "image": {"width": SIZE, "height": SIZE},
    "latent": {"channels": 4, "width": 8, "height": 8, "encode": "mean"},
    "denoise": {"step": 500, "inference_steps": 5, "min_step": 250, "threshold": 0.3, "gate_top_k": 5},
    "score": {"top_k": 20, "map_size": SIZE, "object_mask": "none"},
}  # fmt: skip


def tiny_modules():
    torch.manual_seed(1)
    autoencoder = Autoencoder((8, 8, 16), blocks=1)
    features = Vit(width=16, depth=4, heads=2, targets=(8, 8, 8, 8)).eval()
    unet = UNet(8, 8, channels=(16, 16, 16))
    torch.nn.init.normal_(unet.last.weight, std=0.05)
    return {
        "vae_encoder": graphs.Encoder(autoencoder), "unet": unet, "vae_decoder": graphs.Decoder(autoencoder),
        "dino_gate": graphs.Gate(features, (8, 8), scale=0.5), "dino_score": graphs.Score(features, SIZE, sigma=2.0),
    }  # fmt: skip


def images():
    return torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.mark.parametrize("half", [True, False])
def test_a_bundle_computes_what_the_networks_do(tmp_path, half):
    differences = write_bundle(tmp_path / "tiny", tiny_modules(), MANIFEST, images(), half)
    assert max(differences.values()) < 1e-4
    written = yaml.safe_load((tmp_path / "tiny" / "bundle.yaml").read_text())
    assert set(written["graphs"]) == {"vae_encoder", "unet", "vae_decoder", "dino_gate", "dino_score"}
    for graph in written["graphs"].values():
        assert digest(tmp_path / "tiny" / graph["file"]) == graph["sha256"]


def test_a_bundle_is_never_written_over(tmp_path):
    (tmp_path / "tiny").mkdir()
    with pytest.raises(TrainingError, match="never changes"):
        write_bundle(tmp_path / "tiny", tiny_modules(), MANIFEST, images())


def test_nothing_is_left_of_an_export_that_failed(tmp_path):
    modules = tiny_modules()
    del modules["unet"].position
    with pytest.raises(Exception):
        write_bundle(tmp_path / "tiny", modules, MANIFEST, images())
    assert list(tmp_path.iterdir()) == []


def test_a_picture_has_no_distance_to_itself():
    features = Vit(width=16, depth=4, heads=2, targets=(8, 8, 8, 8)).eval()
    with torch.no_grad():
        same = graphs.Score(features, SIZE, sigma=2.0, both=True)(images(), images())
        other = graphs.Score(features, SIZE, sigma=2.0, both=True)(images(), images().flip(0))
    assert np.abs(same.numpy()).max() < 1e-4 < other.mean()


def test_the_distance_by_place_sees_what_only_moved():
    maps = torch.randn(1, 8, 6, 6, generator=torch.Generator().manual_seed(1))
    moved = maps.roll(2, 3)
    assert graphs.place_distance(maps, maps).max() == 0
    assert graphs.nearest_distance(maps, moved).max() < 1e-5 < 0.1 < graphs.place_distance(maps, moved).min()
    # Over 3x3, of which a corner has 4: 1 everywhere in one of 4 channels is sqrt(1/4).
    one = torch.zeros(1, 4, 5, 5)
    one[:, 0] = 1
    torch.testing.assert_close(graphs.place_distance(one, torch.zeros_like(one)), torch.full((1, 1, 5, 5), 0.5))
