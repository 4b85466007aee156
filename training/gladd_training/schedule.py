"""The noise schedule (design: scaled-linear, the square of a linear ramp)."""

import torch

TRAIN_TIMESTEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012


def alpha_bars():
    """alphaBar of every timestep, float64 [1000]."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0)


def timesteps(step, inference_steps, offset=1):
    """Timesteps of the denoising loop, highest first; the official code's spacing."""
    ratio = step // inference_steps
    return [ratio * i + offset for i in range(inference_steps - 1, -1, -1)], ratio


def add_noise(latent, noise, alpha_bar):
    """x = sqrt(alphaBar) z + sqrt(1-alphaBar) n. alpha_bar: scalar or [N]."""
    a = torch.as_tensor(alpha_bar, dtype=torch.float64).reshape(-1, 1, 1, 1)
    return (a.sqrt() * latent + (1 - a).sqrt() * noise).to(latent.dtype)


def denoise(predict_noise, x, step, inference_steps, class_index=None):
    """Plain DDIM (eta 0) of noised latents x [N,C,h,w] from timestep `step` to 0.

    predict_noise(x, timestep [N]) -> eps, or with class_index [N] as its third argument. This is the trajectory of mode exact
    without the adaptive step; used for sheets and for the fine-tuning of features.
    """
    bars = alpha_bars()
    steps, ratio = timesteps(step, inference_steps)
    classes = () if class_index is None else (class_index,)
    for timestep in steps:
        bar = float(bars[timestep])
        previous = float(bars[max(timestep - ratio, 0)])
        eps = predict_noise(x, torch.full((len(x),), float(timestep), device=x.device), *classes)
        x0 = (x - (1 - bar) ** 0.5 * eps) / bar**0.5
        x = previous**0.5 * x0 + (1 - previous) ** 0.5 * eps
    return x
