import pytest
import torch
from diffusers import DDIMScheduler

from gladd_training.schedule import add_noise, alpha_bars, denoise, timesteps
from gladd_training.stages import oriented_target


def official():
    return DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def test_alpha_bars_are_those_of_diffusers():
    assert torch.allclose(alpha_bars().float(), official().alphas_cumprod, atol=1e-6)


def test_denoising_is_diffusers_ddim():
    scheduler = official()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 8, 8, generator=generator)
    weight = torch.randn(4, 4, generator=generator) * 0.3
    predict = lambda sample, timestep: torch.einsum("cd,ndhw->nchw", weight, sample) + timestep.reshape(-1, 1, 1, 1) * 1e-3
    # From the highest timestep, where the two spacings agree.
    scheduler.set_timesteps(20)
    expected = x
    for timestep in scheduler.timesteps:
        expected = scheduler.step(predict(expected, timestep.expand(2).float()), timestep, expected).prev_sample
    assert timesteps(1000, 20)[0] == scheduler.timesteps.tolist()
    assert torch.allclose(denoise(predict, x, 1000, 20), expected, atol=1e-4)


@pytest.mark.parametrize("timestep", [1, 250, 500, 999])
def test_the_oriented_target_leads_to_the_normal_part(timestep):
    generator = torch.Generator().manual_seed(2)
    normal, damaged, noise = (torch.randn(1, 4, 8, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    bar = alpha_bars()[timestep]
    syn = timestep / 1000 * damaged + (1 - timestep / 1000) * normal
    x = add_noise(syn, noise, bar)
    eps = oriented_target(normal, syn, noise, bar)
    assert torch.allclose((x - (1 - bar).sqrt() * eps) / bar.sqrt(), normal, atol=1e-9)


def test_a_normal_sample_has_the_plain_target():
    z, noise = torch.ones(1, 4, 2, 2), torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(3))
    assert torch.equal(oriented_target(z, z, noise, 0.5), noise)


def test_the_published_target_leads_away_from_the_normal_part():
    normal, syn, noise = torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    eps = oriented_target(normal, syn, noise, 0.5, sign=-1)
    assert torch.allclose((0.5**0.5 * syn - 0.5**0.5 * eps) / 0.5**0.5, 2 * syn - normal, atol=1e-6)
