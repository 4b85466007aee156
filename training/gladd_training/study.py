"""Measurements while a model is being made: what to set, what each part of GLAD brings, and what a plain detector finds."""

import copy
import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import TrainingError, glad, pictures
from .anomalies import synthesise
from .figures import auroc, bootstrap, pixel_auroc
from .loop import generators
from .networks.features import Teacher
from .textures import Textures

GATE_QUANTILE = 0.97  # of good parts' highest gate scores, as `gladd calibrate` takes it
NEVER = float(np.finfo(np.float32).max)


@dataclasses.dataclass
class Labelled:
    """Pictures, uint8 [N,H,W,3], which of them are bad, the kind of their defect, and masks, bool [N,H,W]; None where there are none."""

    pictures: np.ndarray
    bad: np.ndarray
    kinds: list
    masks: np.ndarray | None

    def images(self, i, count=8):
        return pictures.to_tensor(self.pictures[i : i + count])


def read_labelled(folder, width, height):
    """A folder in MVTec AD's layout: test/good, test/<kind>, ground_truth/<kind>/<name>_mask.png."""
    folder = Path(folder)
    if not (folder / "test" / "good").is_dir():
        raise TrainingError(f"{folder}: expected MVTec AD's layout, with a folder test/good")
    kinds, found, masks = [], [], []
    for kind in sorted(p for p in (folder / "test").iterdir() if p.is_dir()):
        for path in pictures.find(kind):
            kinds.append(kind.name)
            found.append(pictures.read(path, width, height))
            mask = folder / "ground_truth" / kind.name / f"{path.stem}_mask.png"
            if kind.name == "good":
                masks.append(np.zeros((height, width), bool))
            elif mask.exists():
                with Image.open(mask) as image:
                    masks.append(np.asarray(image.convert("L").resize((width, height), Image.Resampling.NEAREST)) > 127)
            else:
                masks.append(None)
    whole = None if any(m is None for m in masks) else np.stack(masks)
    return Labelled(np.stack(found), np.array([k != "good" for k in kinds]), kinds, whole)


def synthetic(good, seed, settings):
    """Good pictures, and the same once more with a synthetic anomaly each: to choose settings by, without a defective part."""
    rng, textures = generators(seed, "study", 0), Textures(settings.textures or None)
    damaged, masks = zip(*(synthesise(p, rng, textures, settings.where, settings.small) for p in good))
    masks = np.concatenate([np.zeros((len(good), *good.shape[1:3]), bool), np.stack(masks)])
    return Labelled(np.concatenate([good, np.stack(damaged)]), np.arange(2 * len(good)) >= len(good), ["good"] * len(good) + ["synthetic"] * len(good), masks)


def noise_of(picture, shape):
    """Noise fixed by the picture, so that figures repeat. (The daemon's depends on the model too.)"""
    seed = int.from_bytes(hashlib.sha256(picture.tobytes()).digest()[:8], "big")
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32))


def inspect_all(modules, labelled, denoise, fusion=True, only=None, batch=8):
    """glad.inspect of all pictures, or of those whose indices are in `only`; yields indices and what was found."""
    indices = np.arange(len(labelled.pictures)) if only is None else np.asarray(only)
    for i in range(0, len(indices), batch):
        some = indices[i : i + batch]
        images = pictures.to_tensor(labelled.pictures[some])
        if i == 0:
            shape = tuple(modules["vae_encoder"](images[:1]).shape[1:])
        yield some, glad.inspect(modules, images, torch.stack([noise_of(labelled.pictures[k], shape) for k in some]), denoise, fusion)


def learned_gate(modules, good, denoise):
    """The gate threshold for these steps, learned from good pictures as `gladd calibrate` does."""
    denoise = dataclasses.replace(denoise, threshold=NEVER)
    every = Labelled(good, np.zeros(len(good), bool), ["good"] * len(good), None)
    highest = np.concatenate([np.nanmax(found.gate.numpy(), 1) for _, found in inspect_all(modules, every, denoise)])
    return float(np.quantile(highest, GATE_QUANTILE, method="higher"))


def measure(modules, labelled, denoise, top_k, fusion=True):
    """Scores [N] and, as float16, maps [N,S,S] of all pictures, and the timesteps of their switches."""
    scores, maps, switches = [], [], []
    for _, found in inspect_all(modules, labelled, denoise, fusion):
        scores.append(found.scores(top_k))
        maps.append(found.maps.half())
        switches.append(found.switch_timestep)
    return torch.cat(scores).numpy(), torch.cat(maps).numpy(), torch.cat(switches).numpy()


def figures(labelled, scores, maps=None, seed=0):
    """Image AUROC with its 95 % interval, and pixel AUROC where there are masks."""
    good, bad = scores[~labelled.bad], scores[labelled.bad]
    row = {"image_auroc": auroc(good, bad), "interval": bootstrap(good, bad, seed=seed)}
    if maps is not None and labelled.masks is not None:
        side = maps.shape[-1]
        step = labelled.masks.shape[1] // side
        row["pixel_auroc"] = pixel_auroc(maps.astype(np.float32), labelled.masks[:, step // 2 :: step, step // 2 :: step][:, :side, :side])
    return row


def by_kind(labelled, scores):
    good = scores[~labelled.bad]
    kinds = np.array(labelled.kinds)
    return {k: auroc(good, scores[kinds == k]) for k in sorted(set(labelled.kinds) - {"good"})}


def ablation(modules, plain, labelled, held_out, denoise, top_k):
    """Rows as in the paper's tables 6 and 7. plain: the same modules with a UNet trained without anomalies."""
    rows = []

    def row(name, which, denoise, fusion=True):
        scores, maps, switches = measure(which, labelled, denoise, top_k, fusion)
        rows.append({"name": name, **figures(labelled, scores, maps), "scores": scores.tolist(), "mean_switch": float(switches.mean())})

    fixed = dataclasses.replace(denoise, threshold=0.0)
    for unet, which in (("plain", plain), ("anomaly-oriented", modules)):
        adaptive = dataclasses.replace(denoise, threshold=learned_gate(which, held_out, denoise))
        row(f"{unet}, fixed step {denoise.step}", which, fixed)
        row(f"{unet}, adaptive step, no fusion", which, adaptive, False)
        row(f"{unet}, adaptive step, fusion", which, adaptive)
    for step in (350, 550, 750):
        settled = dataclasses.replace(fixed, step=step, inference_steps=round(denoise.inference_steps * step / denoise.step))
        row(f"anomaly-oriented, fixed step {step}", modules, settled)
    return rows


class Nearest:
    """Nearest neighbours of patches among those of good parts (PatchCore, Roth 2022), in the teacher's features.

    Two stages of the teacher, each averaged over 3x3, the coarser resized to the
    finer grid, channels standardised; a random bank in place of a coreset. A
    picture's score is its highest distance.
    """

    def __init__(self, good, seed, bank=40000, weights=None):
        self.teacher = Teacher(weights)
        maps = torch.cat([self._raw(good[i : i + 8]) for i in range(0, len(good), 8)]).float()
        self.mean, self.std = maps.mean((0, 2, 3), keepdim=True), maps.std((0, 2, 3), keepdim=True).clamp_min(1e-6)
        patches = ((maps - self.mean) / self.std).permute(0, 2, 3, 1).flatten(0, 2)
        del maps
        generator = torch.Generator().manual_seed(seed)
        self.bank = patches[torch.randperm(len(patches), generator=generator)[:bank]]
        self.squares = (self.bank**2).sum(1)

    @torch.no_grad()
    def _raw(self, some):
        fine, coarse = (torch.nn.functional.avg_pool2d(m, 3, 1, 1) for m in self.teacher.raw(pictures.to_tensor(some)))
        return torch.cat([fine, torch.nn.functional.interpolate(coarse, fine.shape[2:], mode="bilinear")], 1).half()

    @torch.no_grad()
    def map(self, picture):
        """float32 [h,w]: each patch's distance to the nearest of the bank."""
        maps = (self._raw(picture[None]).float() - self.mean) / self.std
        query = maps[0].flatten(1).T
        squares = (query**2).sum(1)[:, None] + self.squares - 2 * query @ self.bank.T
        return squares.amin(1).clamp_min(0).sqrt().reshape(maps.shape[2:]).numpy()

    def measure(self, labelled):
        """Scores [N]; maps [N,S,S] of the pictures' size."""
        height, width = labelled.pictures.shape[1:3]
        scores, maps = [], []
        for picture in labelled.pictures:
            found = self.map(picture)
            scores.append(float(found.max()))
            maps.append(np.asarray(Image.fromarray(found).resize((width, height), Image.Resampling.BILINEAR), np.float16))
        return np.array(scores), np.stack(maps)
