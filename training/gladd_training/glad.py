"""GLAD's inspection in torch, in batches, with the parts of it that an ablation takes away.

The daemon's own is in Go (pipeline/), one part at a time; a test holds the two
against each other. This one is for measuring while a model is being made.
"""

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from . import pictures
from .loop import progress
from .schedule import alpha_bars, timesteps

GATE_QUANTILE = 0.97  # of good parts' highest gate scores, as `gladd calibrate` takes it
NEVER = float(np.finfo(np.float32).max)


@dataclass
class Found:
    """What inspecting N parts gave."""

    maps: torch.Tensor  # [N,S,S]
    reconstructions: torch.Tensor  # [N,3,H,W]
    switch_timestep: torch.Tensor  # [N], 0 where there was no switch
    gate: torch.Tensor  # [N,steps], NaN where nothing was compared

    def scores(self, top_k):
        return self.maps.flatten(1).topk(top_k, 1).values.mean(1)


@torch.no_grad()
def inspect(modules, images, noise, denoise, fusion=True, class_index=None, encode_noise=None):
    """images [N,3,H,W] in [-1,1], noise [N,C,h,w]; modules: the bundle's five by name.
    encode_noise [N,C,h,w]: for an encoder whose posterior is sampled.

    denoise: as in bundle.yaml. threshold 0: plain DDIM from its step. fusion
    False: a part that crosses the threshold goes on from x0Test alone, not from
    the spatial-adaptive mixture.
    """
    bars = alpha_bars()
    latent = modules["vae_encoder"](images)
    if isinstance(latent, tuple):
        latent = latent[0] + latent[1] * encode_noise
    count, device = len(images), images.device
    at = lambda timestep: float(bars[timestep])
    noised = lambda bar: bar**0.5 * latent + (1 - bar) ** 0.5 * noise
    steps, ratio = timesteps(denoise.step, denoise.inference_steps)
    x = noised(at(denoise.step if denoise.noise_step is None else denoise.noise_step))
    switched = torch.full((count,), denoise.threshold == 0, dtype=torch.bool, device=device)
    switch_timestep = torch.zeros(count, dtype=torch.long, device=device)
    gate = torch.full((count, len(steps)), float("nan"), device=device)
    for i, timestep in enumerate(steps):
        bar, previous = at(timestep), at(max(timestep - ratio, 0))
        arguments = (x, torch.full((count,), float(timestep), device=device))
        eps = modules["unet"](*arguments) if class_index is None else modules["unet"](*arguments, class_index)
        x0 = (x - (1 - bar) ** 0.5 * eps) / bar**0.5
        open_ = (~switched).nonzero().flatten()
        if len(open_):
            x0_test = (noised(bar) - (1 - bar) ** 0.5 * eps) / bar**0.5
            decode = modules["vae_decoder"]
            maps = modules["dino_gate"](decode(x0_test[open_]), decode(x0[open_]))
            gate[open_, i] = maps.flatten(1).topk(denoise.gate_top_k, 1).values.mean(1)
            crossed = gate[open_, i] > denoise.threshold
            mixed = torch.sigmoid(maps) if fusion else torch.zeros_like(maps)
            fused = mixed * x0[open_] + (1 - mixed) * x0_test[open_]
            for k, part in enumerate(open_):
                if crossed[k]:
                    x0[part] = fused[k]
                elif timestep < denoise.min_step:
                    x0[part] = x0_test[part]
                else:
                    continue
                switched[part], switch_timestep[part] = True, timestep
        x = previous**0.5 * x0 + (1 - previous) ** 0.5 * eps
    reconstructions = modules["vae_decoder"](x)
    return Found(modules["dino_score"](images, reconstructions)[:, 0], reconstructions, switch_timestep, gate)


def noise_of(picture, shape):
    """Noise fixed by the picture, so that figures repeat. (The daemon's depends on the model too.)"""
    seed = int.from_bytes(hashlib.sha256(picture.tobytes()).digest()[:8], "big")
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32))


def inspect_all(modules, given, denoise, fusion=True, batch=8, name="inspecting", labels=None, shown=True):
    """Inspects pictures, uint8 [N,H,W,3], where the modules are, and yields what was found for each batch of them, on the CPU.
    labels [N]: their classes, where there are any."""
    device = next(modules["unet"].parameters()).device
    for i in progress(range(0, len(given), batch), name, shown):
        some = given[i : i + batch]
        images = pictures.to_tensor(some).to(device)
        if i == 0:
            with torch.no_grad():
                encoded = modules["vae_encoder"](images[:1])
            mean = encoded[0] if isinstance(encoded, tuple) else encoded
            shape = (2, *mean.shape[1:])
        noise = torch.stack([noise_of(p, shape) for p in some], 1).to(device)
        classes = None if labels is None else torch.from_numpy(labels[i : i + batch]).to(device)
        found = inspect(modules, images, noise[0], denoise, fusion, classes, noise[1])
        yield Found(*(value.cpu() for value in vars(found).values()))


def learned_gate(modules, good, denoise, labels=None, shown=True):
    """The gate threshold for these steps, learned from good pictures as `gladd calibrate` does."""
    denoise = dataclasses.replace(denoise, threshold=NEVER)
    found = inspect_all(modules, good, denoise, name="gate threshold", labels=labels, shown=shown)
    highest = np.concatenate([np.nanmax(each.gate.numpy(), 1) for each in found])
    return float(np.quantile(highest, GATE_QUANTILE, method="higher"))
