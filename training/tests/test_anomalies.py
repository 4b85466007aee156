import numpy as np
import pytest

from gladd_training.anomalies import AUGMENTERS, augment, foreground, otsu, shuffled_grid, synthesise
from gladd_training.textures import Textures, perlin, scene, texture


def part():
    picture = np.full((64, 80, 3), 30, np.uint8)
    picture[16:48, 20:60] = 200
    return picture


@pytest.mark.parametrize("small", [0.0, 1.0])
@pytest.mark.parametrize("where", ["all", "bright", "dark"])
def test_an_anomaly_changes_only_what_its_mask_and_a_soft_edge_cover(where, small):
    for seed in range(20):
        picture = part()
        damaged, mask = synthesise(picture, np.random.default_rng(seed), Textures(), where, small)
        assert damaged.shape == picture.shape and mask.any()
        assert not (mask & ~foreground(picture, where)).any()
        near = np.zeros_like(mask)
        for dy in range(-4, 5):
            for dx in range(-4, 5):
                near |= np.roll(mask, (dy, dx), (0, 1))
        assert np.array_equal(damaged[~near], picture[~near])


def test_the_same_seed_gives_the_same_anomaly():
    one, two = (synthesise(part(), np.random.default_rng(3), Textures())[0] for _ in range(2))
    assert np.array_equal(one, two)


def test_otsu_parts_the_two_levels():
    assert 30 <= otsu(part()) < 200
    assert foreground(part(), "bright").sum() == 32 * 40


def test_perlin_noise_is_zero_on_its_grid_and_within_its_range():
    noise = perlin(np.random.default_rng(0), 64, 64, 4, 8)
    assert np.allclose(noise[::16, ::8], 0, atol=1e-6)
    assert 0.3 < np.abs(noise).max() <= 1.01


def test_a_shuffled_grid_keeps_its_values():
    picture = texture(np.random.default_rng(1), 64, 80)
    shuffled = shuffled_grid(picture, np.random.default_rng(2))
    assert not np.array_equal(shuffled, picture)
    assert np.array_equal(np.sort(shuffled, None), np.sort(picture, None))


def test_there_are_ten_augmenters_and_each_leaves_a_picture():
    from PIL import Image

    assert len(AUGMENTERS) == 10
    picture = scene(np.random.default_rng(4), 64, 80)
    for augmenter in AUGMENTERS:
        changed = np.asarray(augmenter(Image.fromarray(picture), np.random.default_rng(5)))
        assert changed.shape == picture.shape and changed.dtype == np.uint8
    assert augment(picture, np.random.default_rng(6)).shape == picture.shape
