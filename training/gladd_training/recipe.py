"""A training recipe: YAML, strict, every key with a default but the name."""

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path

import yaml

from . import TrainingError

SCHEMA = "gladd.training/v1"

# Learning rates without lr in the recipe: of a small network from scratch, and of a
# given one to fine-tune (GLAD's own training of Stable Diffusion's UNet has 5e-6).
FROM_SCRATCH, GIVEN = 1.5e-3, 5e-6


@dataclass
class Image:
    """The size that pictures are brought to, in pixels."""

    width: int = 256
    height: int = 256


@dataclass
class Anomalies:
    """Synthetic anomalies, painted on good parts."""

    count: int = 1800  # parts with one, made once
    where: str = "all"  # all | dark | bright: the object is darker, brighter than its background (Otsu)
    small: float = 0.4  # share of streaks and spots; 0 in the paper
    textures: str = ""  # a folder of pictures such as DTD; without it procedural ones


@dataclass
class Autoencoder:
    """Pictures to latents and back."""

    path: str = ""  # a folder of diffusers' AutoencoderKL to fine-tune; without it a small one from scratch
    encode: str = "mean"  # mean | sample: a part's latent is the posterior's mean, or drawn from it as in the official code
    channels: list = field(default_factory=lambda: [32, 64, 128])  # at 1/2, 1/4 and 1/8 of the picture; from scratch
    blocks: int = 2  # residual blocks at each of these; from scratch
    crop: int = 96  # side of the crops that it is trained on
    kl: float = 1e-6  # weight of the KL term
    steps: int = 1800  # of training; 0 leaves a given one as it is
    lr: float | None = None  # highest learning rate; without it 1.5e-3, or 5e-6 with path
    batch: int = 10  # crops a step, half of them with synthetic anomalies


@dataclass
class Denoiser:
    """Noise to good parts."""

    path: str = ""  # a folder of diffusers' UNet2DConditionModel to fine-tune; without it a small one from scratch
    prompts: list = field(default_factory=lambda: ["a photo of sks"])  # for it, one a class; constant
    embeddings: str = ""  # for it: a safetensors file of prompts and negative; without it the text encoder beside the UNet's folder
    guidance: float = 9.0  # for it; 1: none
    orientation: str = "normal"  # normal: the target leads to the normal part; published: as the official code has it since March 2025
    channels: list = field(default_factory=lambda: [64, 128, 192])  # at 1/8, 1/16 and 1/32 of the picture; from scratch
    position_map: bool = True  # learns a value for each place: for parts that lie still, or nearly so; from scratch
    normal_share: float = 0.5  # of the samples; 1: plain training, without anomalies
    max_timestep: int = 1000  # train below this; a short training need not learn what is never denoised
    steps: int = 3000  # of training; 0 leaves a given one as it is
    lr: float | None = None  # highest learning rate; without it 1.5e-3, or 5e-6 with path
    batch: int = 16  # latents a step
    ema: float = 0.998  # decay of the weights' moving average, which is what is kept; 0: none


@dataclass
class Features:
    """What patches look like."""

    path: str = ""  # a file of DINO's weights (ViT-S/16, S/8, B/8 and such); without it network decides
    network: str = "vit"  # vit: a small one from scratch, taught as method says; teacher: EfficientNet-lite0 itself
    method: str = "distill"  # distill: from the teacher; dino: self-supervised, by DINO's own method
    width: int = 128  # of the small ViT's tokens
    depth: int = 8  # its blocks, a multiple of 4
    heads: int = 4  # of its attention
    crop: int = 128  # side of the crops that it is trained on
    own: float = 0.5  # share of the user's pictures; the others are procedural scenes
    teacher: str = ""  # a file of EfficientNet-lite0's weights; without it the installed package's
    steps: int = 4000  # of training
    lr: float = 1e-3  # highest learning rate
    batch: int = 8  # crops a step
    ema: float = 0.998  # decay of the weights' moving average, which is what is kept; 0: none


@dataclass
class Finetune:
    """The features learn to overlook what a reconstruction of a good part changes."""

    denoise_step: int = 200  # the timestep that the reconstructions start from
    inference_steps: int = 5  # and the steps that they take
    distillation: float = 0.01  # weight of staying like the network before
    contrast: float = 0.0  # beyond the paper: the weight of telling synthetic anomalies; 0: none
    pairs: int = 600  # pictures that are reconstructed for it, at most
    crop: int = 128  # side of the crops that it is done on; with features.path whole pictures
    steps: int = 600  # of training; 0: none
    lr: float = 1e-4  # highest learning rate
    batch: int = 8  # pairs a step


@dataclass
class Denoise:
    """As in bundle.yaml. Without a threshold it is learned from some of the good parts, once the networks are trained."""

    step: int = 500  # T, the timestep from which a part is denoised
    noise_step: int | None = None  # the timestep to which it is noised; without it step
    inference_steps: int = 10  # S
    min_step: int = 250  # below it the trajectory switches at the latest
    threshold: float | None = None  # of the gate score; 0: no adaptive step
    gate_top_k: int = 10  # the gate score is the mean of so many highest values


@dataclass
class Score:
    """How a part and its reconstruction are compared."""

    top_k: int = 250  # the score is the mean of so many highest values of the map
    map_size: int = 256  # the map's side
    object_mask: str = "none"  # none | otsu_dark | otsu_bright: only the object counts
    standardise: str = "none"  # none | location: `gladd calibrate` learns how good parts' maps run; for parts that lie still
    distance: str = "nearest"  # nearest: to the most similar patch anywhere, as in the paper; place: to the patch at the same place, for parts that lie still
    weights: list = field(default_factory=list)  # of the layers, finest first; without them each 1
    resolution: int = 0  # the side that both pictures are brought to for the features; 0: they stay as they are
    pixel: float = 0.5  # weight of the pixels' distance beside the features'
    pixel_by_maximum: bool = False  # as in the official code: its highest value is `pixel` times the features' highest
    sigma: float = 4.0  # of the blur, in the map's pixels
    both: bool = False  # with distance nearest: from the reconstruction's patches to the part's too
    gate_scale: float = 0.5  # the gate sees pictures of this size, 1 or 0.5; with features.path always 1


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


def learning_rate(stage):
    """A stage's highest learning rate."""
    if stage.lr is not None:
        return stage.lr
    return GIVEN if stage.path else FROM_SCRATCH


def _number(value):
    """Whole numbers, and 1e-4 without a point, which YAML 1.1 takes for text, as float."""
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    return value


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
        if f.type in (float, float | None):
            found = _number(found)
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
    need(recipe.autoencoder.encode in ("mean", "sample"), "autoencoder.encode", "mean or sample", recipe.autoencoder.encode)
    need(recipe.denoiser.orientation in ("normal", "published"), "denoiser.orientation", "normal or published", recipe.denoiser.orientation)
    need(recipe.features.network in ("vit", "teacher"), "features.network", "vit or teacher", recipe.features.network)
    need(recipe.features.method in ("distill", "dino"), "features.method", "distill or dino", recipe.features.method)
    for key, share in (("anomalies.small", recipe.anomalies.small), ("denoiser.normal_share", recipe.denoiser.normal_share), ("features.own", recipe.features.own)):
        need(0 <= share <= 1, key, "a share, 0 to 1", share)
    need(all(isinstance(c, str) for c in recipe.classes) and len(set(recipe.classes)) == len(recipe.classes), "classes", "names, each once", recipe.classes)
    if recipe.denoiser.path and not recipe.denoiser.embeddings:
        need(len(recipe.denoiser.prompts) == max(1, len(recipe.classes)), "denoiser.prompts", "one, or one a class", recipe.denoiser.prompts)
    need(recipe.finetune.pairs >= 1, "finetune.pairs", "at least 1", recipe.finetune.pairs)
    need(recipe.finetune.contrast >= 0, "finetune.contrast", "at least 0", recipe.finetune.contrast)
    need(recipe.finetune.distillation >= 0, "finetune.distillation", "at least 0", recipe.finetune.distillation)
    for stage in ("autoencoder", "denoiser", "features", "finetune"):
        options = getattr(recipe, stage)
        given = stage == "finetune" or options.path or getattr(options, "network", "") == "teacher"
        need(options.steps >= (0 if given else 1), f"{stage}.steps", "a number of at least 0" if given else "at least 1", options.steps)
        need(options.batch >= 1, f"{stage}.batch", "at least 1", options.batch)
        need(options.lr is None or options.lr > 0, f"{stage}.lr", "a positive number", options.lr)
        ema = getattr(options, "ema", 0.0)
        need(0 <= ema < 1, f"{stage}.ema", "a number of at least 0 and below 1", ema)
    _check_steps(recipe, need)
    need(recipe.features.depth % 4 == 0 and recipe.features.depth > 0, "features.depth", "a multiple of 4", recipe.features.depth)
    need(recipe.features.heads > 0 and recipe.features.width % recipe.features.heads == 0, "features.heads", "a divisor of features.width", recipe.features.heads)
    need(all(isinstance(c, int) and c > 0 and c % 16 == 0 for c in recipe.denoiser.channels) and len(recipe.denoiser.channels) == 3,
         "denoiser.channels", "three multiples of 16", recipe.denoiser.channels)  # fmt: skip
    need(len(recipe.autoencoder.channels) == 3 and all(isinstance(c, int) and c > 0 for c in recipe.autoencoder.channels),
         "autoencoder.channels", "three numbers above 0", recipe.autoencoder.channels)  # fmt: skip
    layers = 2 if recipe.features.network == "teacher" and not recipe.features.path else 4
    need(len(recipe.score.weights) in (0, layers), "score.weights", f"{layers} numbers", recipe.score.weights)
    need(recipe.score.object_mask in ("none", "otsu_dark", "otsu_bright"), "score.object_mask", "none, otsu_dark or otsu_bright", recipe.score.object_mask)
    need(recipe.score.standardise in ("none", "location"), "score.standardise", "none or location", recipe.score.standardise)
    need(recipe.score.distance in ("nearest", "place"), "score.distance", "nearest or place", recipe.score.distance)
    need(not (recipe.score.both and recipe.score.distance == "place"), "score.both", "false with distance: place, which is the same both ways", recipe.score.both)
    need(recipe.score.gate_scale in (1.0, 0.5), "score.gate_scale", "1 or 0.5", recipe.score.gate_scale)
    need(16 <= recipe.score.map_size <= 4096, "score.map_size", "16 to 4096", recipe.score.map_size)
    need(1 <= recipe.score.top_k <= recipe.score.map_size**2, "score.top_k", f"1 to {recipe.score.map_size**2}, the map's pixels", recipe.score.top_k)
    need(0 < recipe.score.sigma < recipe.score.map_size / 4, "score.sigma", "a number above 0 and below a quarter of map_size", recipe.score.sigma)


def _check_steps(recipe, need):
    """The timesteps, as the daemon checks them: a bundle that it refuses is not worth hours of training."""
    denoise, finetune = recipe.denoise, recipe.finetune
    need(1 <= denoise.step <= 1000, "denoise.step", "1 to 1000", denoise.step)
    need(1 <= denoise.inference_steps <= denoise.step, "denoise.inference_steps", f"1 to denoise.step, {denoise.step}", denoise.inference_steps)
    noise_step = denoise.step if denoise.noise_step is None else denoise.noise_step
    need(0 <= noise_step <= 999, "denoise.noise_step", "0 to 999, the schedule's last timestep (without the key it is denoise.step)", noise_step)
    first = denoise.step // denoise.inference_steps * (denoise.inference_steps - 1) + 1
    need(first < recipe.denoiser.max_timestep <= 1000, "denoiser.max_timestep", f"above the first timestep, {first}, to 1000", recipe.denoiser.max_timestep)
    need(0 <= denoise.min_step <= 1000, "denoise.min_step", "0 to 1000", denoise.min_step)
    threshold = denoise.threshold
    need(threshold is None or 0 <= threshold < float("inf"), "denoise.threshold", "a number of at least 0, or nothing", threshold)
    cells = recipe.image.width // 8 * (recipe.image.height // 8)
    need(1 <= denoise.gate_top_k <= cells, "denoise.gate_top_k", f"1 to {cells}, the latent's places", denoise.gate_top_k)
    need(1 <= finetune.denoise_step <= 999, "finetune.denoise_step", "1 to 999", finetune.denoise_step)
    need(1 <= finetune.inference_steps <= finetune.denoise_step, "finetune.inference_steps", f"1 to {finetune.denoise_step}", finetune.inference_steps)
