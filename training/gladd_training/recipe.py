"""A training recipe: YAML, strict, every key with a default but the name."""

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path

import yaml

from . import TrainingError

SCHEMA = "gladd.training/v1"


@dataclass
class Image:
    width: int = 256
    height: int = 256


@dataclass
class Anomalies:
    count: int = 1800  # parts with a synthetic anomaly, made once
    where: str = "all"  # all | dark | bright: the object is darker, brighter than its background (Otsu)
    small: float = 0.4  # share of streaks and spots; 0 in the paper
    textures: str = ""  # a folder of pictures such as DTD; without it procedural ones


@dataclass
class Autoencoder:
    path: str = ""  # a folder of diffusers' AutoencoderKL to fine-tune; without it a small one from scratch
    channels: list = field(default_factory=lambda: [32, 64, 128])
    blocks: int = 2
    crop: int = 96
    kl: float = 1e-6
    steps: int = 1800
    lr: float = 1.5e-3
    batch: int = 10


@dataclass
class Denoiser:
    path: str = ""  # a folder of diffusers' UNet2DConditionModel to fine-tune; without it a small one from scratch
    prompts: list = field(default_factory=lambda: ["a photo of sks"])  # for it, one a class; constant
    embeddings: str = ""  # for it: a safetensors file of prompts and negative; without it the text encoder beside the UNet's folder
    guidance: float = 9.0  # for it; 1: none
    orientation: str = "normal"  # normal: the target leads to the normal part; published: as the official code has it
    channels: list = field(default_factory=lambda: [64, 128, 192])
    position_map: bool = True  # for parts that lie still, or nearly so
    normal_share: float = 0.5  # of the samples; 1: plain training, without anomalies
    max_timestep: int = 1000  # train below this; a short training need not learn what is never denoised
    steps: int = 3000
    lr: float = 1.5e-3
    batch: int = 16
    ema: float = 0.998


@dataclass
class Features:
    path: str = ""  # a file of DINO's weights (ViT-S/16, S/8, B/8 and such); without it a small ViT from scratch
    network: str = "vit"  # without path: vit, taught as method says; teacher: EfficientNet-lite0 itself
    method: str = "distill"  # distill: from the teacher; dino: self-supervised, by DINO's own method
    width: int = 128
    depth: int = 8
    heads: int = 4
    crop: int = 128
    own: float = 0.5  # share of the user's pictures; the others are procedural scenes
    teacher: str = ""  # a file of EfficientNet-lite0's weights; without it the installed package's
    steps: int = 4000
    lr: float = 1e-3
    batch: int = 8
    ema: float = 0.998


@dataclass
class Finetune:
    denoise_step: int = 200
    inference_steps: int = 5
    distillation: float = 0.01
    contrast: float = 0.0  # beyond the paper: the weight of telling synthetic anomalies; 0: none
    pairs: int = 600  # pictures that are reconstructed for it
    crop: int = 128
    steps: int = 600  # 0: none
    lr: float = 1e-4
    batch: int = 8


@dataclass
class Denoise:
    """As in bundle.yaml. Without a threshold it is learned from some of the good parts, once the networks are trained."""

    step: int = 500
    inference_steps: int = 10
    min_step: int = 250
    threshold: float | None = None
    gate_top_k: int = 10


@dataclass
class Score:
    top_k: int = 250
    map_size: int = 256
    object_mask: str = "none"
    standardise: str = "none"  # none | location: `gladd calibrate` learns how good parts' maps run; for parts that lie still
    weights: list = field(default_factory=list)  # of the layers, finest first; without them each 1
    resolution: int = 0  # the side that both pictures are brought to for the features; 0: they stay as they are
    pixel: float = 0.5
    pixel_by_maximum: bool = False
    sigma: float = 4.0
    both: bool = False
    gate_scale: float = 0.5  # the gate sees pictures of this size


@dataclass
class Recipe:
    name: str
    classes: list = field(default_factory=list)  # names of the folders in --good, for one UNet of several classes
    version: str = "1.0.0"
    schema: str = SCHEMA
    seed: int = 1
    half: bool = True  # weights stored as FP16
    image: Image = field(default_factory=Image)
    anomalies: Anomalies = field(default_factory=Anomalies)
    autoencoder: Autoencoder = field(default_factory=Autoencoder)
    denoiser: Denoiser = field(default_factory=Denoiser)
    features: Features = field(default_factory=Features)
    finetune: Finetune = field(default_factory=Finetune)
    denoise: Denoise = field(default_factory=Denoise)
    score: Score = field(default_factory=Score)


def _build(kind, value, where):
    if not isinstance(value, dict):
        raise TrainingError(f"{where}: expected keys and values, found {value!r}")
    known = {f.name: f for f in fields(kind)}
    for key in value:
        if key not in known:
            raise TrainingError(f"{where}: unknown key {key!r}; known are {', '.join(known)}")
    given = {}
    for name, f in known.items():
        if name not in value:
            if f.default is MISSING and f.default_factory is MISSING:
                raise TrainingError(f"{where}: {name} is missing")
            continue
        found = value[name]
        if is_dataclass(f.type):
            given[name] = _build(f.type, found, f"{where}: {name}")
            continue
        if f.type in (float, float | None) and isinstance(found, int) and not isinstance(found, bool):
            found = float(found)
        if not isinstance(found, f.type) or (f.type is int and isinstance(found, bool)):
            raise TrainingError(f"{where}: {name}: expected {getattr(f.type, '__name__', f.type)}, found {found!r}")
        given[name] = found
    return kind(**given)


def load(path):
    path = Path(path)
    try:
        value = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path}: {error}") from error
    recipe = _build(Recipe, value, str(path))
    check(recipe, path)
    return recipe


def check(recipe, path):
    def need(good, key, expected, found):
        if not good:
            raise TrainingError(f"{path}: {key}: expected {expected}, found {found!r}")

    need(recipe.schema == SCHEMA, "schema", SCHEMA, recipe.schema)
    for name in ("width", "height"):
        side = getattr(recipe.image, name)
        need(side >= 64 and side % 64 == 0, f"image.{name}", "a multiple of 64", side)
    shortest = min(recipe.image.width, recipe.image.height)
    # A given feature network sees whole pictures.
    for name in ("autoencoder",) if recipe.features.path else ("autoencoder", "features", "finetune"):
        crop = getattr(recipe, name).crop
        need(crop % 16 == 0 and 16 <= crop <= shortest, f"{name}.crop", f"a multiple of 16, at most {shortest}", crop)
    need(recipe.anomalies.where in ("all", "dark", "bright"), "anomalies.where", "all, dark or bright", recipe.anomalies.where)
    need(recipe.anomalies.count > 0, "anomalies.count", "at least 1", recipe.anomalies.count)
    need(recipe.denoiser.orientation in ("normal", "published"), "denoiser.orientation", "normal or published", recipe.denoiser.orientation)
    need(recipe.features.network in ("vit", "teacher"), "features.network", "vit or teacher", recipe.features.network)
    need(recipe.features.method in ("distill", "dino"), "features.method", "distill or dino", recipe.features.method)
    need(all(isinstance(c, str) for c in recipe.classes) and len(set(recipe.classes)) == len(recipe.classes), "classes", "names, each once", recipe.classes)
    if recipe.denoiser.path and not recipe.denoiser.embeddings:
        need(len(recipe.denoiser.prompts) == max(1, len(recipe.classes)), "denoiser.prompts", "one, or one a class", recipe.denoiser.prompts)
    need(recipe.finetune.pairs >= 1, "finetune.pairs", "at least 1", recipe.finetune.pairs)
    need(recipe.finetune.contrast >= 0, "finetune.contrast", "at least 0", recipe.finetune.contrast)
    for stage in ("autoencoder", "denoiser", "features", "finetune"):
        options = getattr(recipe, stage)
        given = stage == "finetune" or options.path or getattr(options, "network", "") == "teacher"
        need(options.steps >= (0 if given else 1), f"{stage}.steps", "a number of at least 0" if given else "at least 1", options.steps)
        need(options.batch >= 1, f"{stage}.batch", "at least 1", options.batch)
        need(options.lr > 0, f"{stage}.lr", "a positive number", options.lr)
    threshold = recipe.denoise.threshold
    need(threshold is None or 0 <= threshold < float("inf"), "denoise.threshold", "a number of at least 0, or nothing", threshold)
    need(recipe.denoise.step <= recipe.denoiser.max_timestep <= 1000, "denoiser.max_timestep", f"denoise.step, {recipe.denoise.step}, to 1000",
         recipe.denoiser.max_timestep)  # fmt: skip
    need(recipe.features.depth % 4 == 0 and recipe.features.depth > 0, "features.depth", "a multiple of 4", recipe.features.depth)
    need(recipe.features.width % recipe.features.heads == 0, "features.heads", "a divisor of features.width", recipe.features.heads)
    need(all(isinstance(c, int) and c > 0 and c % 16 == 0 for c in recipe.denoiser.channels) and len(recipe.denoiser.channels) == 3,
         "denoiser.channels", "three multiples of 16", recipe.denoiser.channels)  # fmt: skip
    need(len(recipe.autoencoder.channels) == 3, "autoencoder.channels", "three numbers", recipe.autoencoder.channels)
    layers = 2 if recipe.features.network == "teacher" and not recipe.features.path else 4
    need(len(recipe.score.weights) in (0, layers), "score.weights", f"{layers} numbers", recipe.score.weights)
    need(recipe.score.standardise in ("none", "location"), "score.standardise", "none or location", recipe.score.standardise)
    need(recipe.score.gate_scale in (1.0, 0.5), "score.gate_scale", "1 or 0.5", recipe.score.gate_scale)
