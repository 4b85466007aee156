"""Measurements while a model is being made: what to set, what each part of GLAD brings, and what a plain detector finds."""

import argparse
import dataclasses
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import TrainingError, glad, pictures
from .anomalies import synthesise
from .export import round_to_half
from .figures import auroc, bootstrap, pixel_auroc
from .graphs import Score
from .loop import OtherSettings, Run, generators
from .main import chosen_device, report, use_threads
from .networks.features import Teacher
from .recipe import load
from .road import Road
from .textures import Textures

WHOLE = "adaptive step, fusion"


@dataclasses.dataclass
class Labelled:
    """Pictures, uint8 [N,H,W,3], which of them are bad, the kind of their defect, and masks, bool [N,H,W]; None where there are none."""

    pictures: np.ndarray
    bad: np.ndarray
    kinds: list
    masks: np.ndarray | None


def read_labelled(folder, width, height):
    """A folder in MVTec AD's layout: test/good, test/<kind>, ground_truth/<kind>/<name>_mask.png."""
    folder = Path(folder)
    if not (folder / "test" / "good").is_dir():
        raise TrainingError(f"{folder}: expected MVTec AD's layout, with a folder test/good")
    folders = sorted(p for p in (folder / "test").iterdir() if p.is_dir())
    if len(folders) < 2:
        raise TrainingError(f"{folder / 'test'}: expected a folder for each kind of defect beside good, found none")
    kinds, found, masks = [], [], []
    for kind in folders:
        for path in pictures.find(kind, "pictures"):
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


def synthetic(good, seed, settings, each=1):
    """Good pictures, and `each` times the same with a synthetic anomaly: to choose settings by, without a defective part."""
    rng, textures = generators(seed, "study", 0), Textures(settings.textures or None)
    damaged, masks = zip(*(synthesise(p, rng, textures, settings.where, settings.small) for _ in range(each) for p in good))
    masks = np.concatenate([np.zeros((len(good), *good.shape[1:3]), bool), np.stack(masks)])
    kinds = ["good"] * len(good) + ["synthetic"] * len(damaged)
    return Labelled(np.concatenate([good, np.stack(damaged)]), np.arange(len(kinds)) >= len(good), kinds, masks)


def measure(modules, labelled, denoise, top_k, fusion=True, name="inspecting"):
    """Scores [N] and, as float16, maps [N,S,S] of all pictures, and the timesteps of their switches."""
    scores, maps, switches = [], [], []
    for found in glad.inspect_all(modules, labelled.pictures, denoise, fusion, name=name):
        scores.append(found.scores(top_k))
        maps.append(found.maps.half())
        switches.append(found.switch_timestep)
    return torch.cat(scores).numpy(), torch.cat(maps).numpy(), torch.cat(switches).numpy()


def figures(labelled, scores, maps=None, seed=0):
    """Image AUROC with its 95 % interval, and pixel AUROC where there are masks."""
    good, bad = scores[~labelled.bad], scores[labelled.bad]
    row = {"image_auroc": auroc(good, bad), "interval": bootstrap(good, bad, seed=seed)}
    if maps is not None and labelled.masks is not None:
        # As gladd eval does: the mask's nearest pixel.
        y, x = (((np.arange(maps.shape[-1]) + 0.5) * side / maps.shape[-1]).astype(int) for side in labelled.masks.shape[1:])
        row["pixel_auroc"] = pixel_auroc(maps.astype(np.float32), labelled.masks[:, y[:, None], x])
    return row


def by_kind(labelled, scores):
    good = scores[~labelled.bad]
    kinds = np.array(labelled.kinds)
    return {k: auroc(good, scores[kinds == k]) for k in sorted(set(labelled.kinds) - {"good"})}


def ablation(modules, plain, labelled, held_out, denoise, top_k):
    """Rows as in the paper's tables 6 and 7, each with the interval of its image AUROC's difference from GLAD's as a whole.

    plain: the same modules with a UNet trained without anomalies.
    """
    rows = []

    def row(name, which, denoise, fusion=True):
        scores, maps, switches = measure(which, labelled, denoise, top_k, fusion, name)
        rows.append({"name": name, **figures(labelled, scores, maps), "scores": scores.tolist(), "mean_switch": float(switches.mean())})

    fixed = dataclasses.replace(denoise, threshold=0.0)
    for unet, which in (("plain", plain), ("anomaly-oriented", modules)):
        adaptive = dataclasses.replace(denoise, threshold=glad.learned_gate(which, held_out, denoise))
        row(f"{unet}, fixed step {denoise.step}", which, fixed)
        row(f"{unet}, adaptive step, no fusion", which, adaptive, False)
        row(f"{unet}, {WHOLE}", which, adaptive)
    for step in (350, 550, 750):
        settled = dataclasses.replace(fixed, step=step, inference_steps=round(denoise.inference_steps * step / denoise.step))
        row(f"anomaly-oriented, fixed step {step}", modules, settled)
    compare(rows, labelled.bad, f"anomaly-oriented, {WHOLE}")
    return rows


def compare(rows, bad, whole):
    """Adds the 95 % interval of each row's image AUROC minus that of the row named `whole`, on the same draws of parts."""
    split = lambda row: (np.array(row["scores"])[~bad], np.array(row["scores"])[bad])
    reference = split(next(row for row in rows if row["name"] == whole))
    for row in rows:
        row["difference"] = bootstrap(*split(row), other=reference)


class Nearest:
    """Nearest neighbours of patches among those of good parts (PatchCore, Roth 2022), in the teacher's features.

    Two stages of the teacher, each averaged over 3x3, the coarser resized to the
    finer grid, channels standardised; a random bank in place of a coreset. A
    picture's score is its highest distance.
    """

    def __init__(self, good, seed, bank=40000):
        self.teacher = Teacher()
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
        for picture in glad.progress(labelled.pictures, "nearest neighbours"):
            found = self.map(picture)
            scores.append(float(found.max()))
            maps.append(np.asarray(Image.fromarray(found).resize((width, height), Image.Resampling.BILINEAR), np.float16))
        return np.array(scores), np.stack(maps)


def settings_grid(modules, labelled, held_out, denoise, top_k, steps, min_steps):
    """For each step and lowest step: AUROC on held-out parts with synthetic anomalies, the gate threshold, comparisons a good part takes."""
    rows = []
    for step in steps:
        count = max(1, round(denoise.inference_steps * step / denoise.step))
        for min_step in min_steps:
            if min_step > step:
                continue
            tried = dataclasses.replace(denoise, step=step, inference_steps=count, min_step=min_step)
            tried.threshold = glad.learned_gate(modules, held_out, tried)
            scores, maps, switches = measure(modules, labelled, tried, top_k, name=f"step {step}, lowest {min_step}")
            ratio = step // count
            comparisons = sum(ratio * i + 1 >= min_step for i in range(count)) + 1
            rows.append({
                "step": step, "inference_steps": count, "min_step": min_step, "threshold": tried.threshold, "comparisons": min(comparisons, count),
                "switched_early": float((switches[labelled.bad] >= min_step).mean()), **figures(labelled, scores, maps),
            })  # fmt: skip
    if not rows:
        raise TrainingError("--min-steps: expected one that is at most a step of --steps, found none")
    return rows


def score_grid(modules, labelled, denoise, score, distances, pixels, sigmas, top_ks):
    """For each distance, pixel weight, blur and number of pixels: AUROC. All from one reconstruction of each part."""
    features, pixel, i = {d: [] for d in distances}, [], 0
    for found in glad.inspect_all(modules, labelled.pictures, denoise):
        images = pictures.to_tensor(labelled.pictures[i : i + len(found.maps)])
        device = next(modules["unet"].parameters()).device
        with torch.no_grad():
            of_features, of_pixels = modules["dino_score"].distances_by(distances, images.to(device), found.reconstructions.to(device))
        for distance, values in zip(distances, of_features, strict=True):
            features[distance].append(values.cpu())
        pixel.append(of_pixels.cpu())
        i += len(images)
    rows = []
    for distance, weight, sigma in itertools.product(distances, pixels, sigmas):
        how = Score(None, score.map_size, pixel=weight, pixel_by_maximum=score.pixel_by_maximum, sigma=sigma)
        maps = torch.cat([how.combined(f, p)[:, 0] for f, p in zip(features[distance], pixel, strict=True)])
        for top_k in top_ks:
            scores = maps.flatten(1).topk(top_k, 1).values.mean(1).numpy()
            row = {"distance": distance, "pixel": weight, "sigma": sigma, "top_k": top_k, **figures(labelled, scores)}
            row["recipe"] = "*" if (distance, weight, sigma, top_k) == (score.distance, score.pixel, score.sigma, score.top_k) else ""
            rows.append({**row, "kinds": by_kind(labelled, scores), "scores": scores.tolist()})
    return rows


def parser():
    p = argparse.ArgumentParser(prog="gladd-study", description="Measures a model that was trained by gladd-train: what to set, and what each part of GLAD brings.")
    commands = p.add_subparsers(dest="command", required=True)

    def command(name, description, trained=True, held_out=True):
        c = commands.add_parser(name, help=description, description=description)
        c.add_argument("--good", required=True, metavar="DIR", help="the good parts that it was trained on" if trained else "good parts to fill its bank with")
        if trained:
            c.add_argument("recipe", help="the recipe that it was trained by")
            c.add_argument("--run", required=True, metavar="DIR", help="gladd-train's --out")
            c.add_argument("--held-out", required=held_out, metavar="DIR", help="good parts that it was not trained on")
            c.add_argument("--count", type=int, default=60, metavar="N", help="how many of those at most, 0: all; default 60")
            c.add_argument("--anomalies", type=int, default=1, metavar="N", help="how many synthetic anomalies to try on each of those, each by itself; default 1")
            c.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: a GPU where there is one")
        c.add_argument("--json", metavar="FILE", help="write the rows there too, with the score of each picture")
        c.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads; default: all cores")
        return c

    c = command("settings", "What to set in denoise: tries steps on held-out parts, half of them with synthetic anomalies. No defective part is needed.")
    c.add_argument("--steps", default="300,500,700", metavar="LIST", help="T, comma-separated")
    c.add_argument("--min-steps", default="150,250,350", metavar="LIST", help="lowest steps, comma-separated")
    c = command("score", "What to set in score: tries distances, pixel weights, blurs and top_k on held-out parts, half of them with synthetic anomalies, or on a labelled set.", held_out=False)
    c.add_argument("--distances", default="nearest,place", metavar="LIST", help="nearest, place or both of them")
    c.add_argument("--pixels", default="0,0.5,1,2,5", metavar="LIST", help="pixel weights, comma-separated")
    c.add_argument("--sigmas", default="4", metavar="LIST", help="of the blur, comma-separated")
    c.add_argument("--top-ks", default="50,250,1000", metavar="LIST", help="how many pixels of the map, comma-separated")
    c.add_argument("--data", metavar="DIR", help="a labelled set in MVTec AD's layout, in place of --held-out")
    c = command("ablation", "What each part of GLAD brings, on a labelled set in MVTec AD's layout.")
    c.add_argument("--data", required=True, metavar="DIR", help="the labelled set")
    c.add_argument("--plain", required=True, nargs=2, metavar=("RECIPE", "DIR"), help="recipe and --out of the same model trained with denoiser.normal_share: 1")
    c = command("nearest", "A plain detector to compare with: nearest neighbours of patches (PatchCore) in the teacher's features.", trained=False)
    c.add_argument("--data", required=True, metavar="DIR", help="the labelled set, in MVTec AD's layout")
    c.add_argument("--size", type=int, default=256, metavar="PIXELS", help="side of the pictures; default 256")
    c.add_argument("--bank", type=int, default=40000, metavar="N", help="patches in the bank; default 40000")
    c.add_argument("--seed", type=int, default=1, help="of the bank's draw; default 1")
    return p


def numbers(flag, text, kind):
    """A comma-separated list of a flag."""
    try:
        return [kind(v) for v in text.split(",")]
    except ValueError:
        raise TrainingError(f"{flag}: expected numbers, comma-separated, found {text!r}") from None


def check_range(flag, values, expected, good):
    for value in values:
        if not good(value):
            raise TrainingError(f"{flag}: expected numbers {expected}, found {value}")


def trained(recipe, good, folder, device):
    """The road of a model that is trained already: a study trains nothing."""
    if recipe.classes:
        raise TrainingError(f"{recipe.name}: expected a recipe without classes; a study of several classes is not supported")
    try:
        road = Road(recipe, good, Run(Path(folder), recipe.seed, device))
    except OtherSettings as error:
        raise TrainingError(f"{error.lines}\nA study needs the recipe, and the pictures in --good, that {folder} was trained with.") from error
    if missing := road.unfinished():
        raise TrainingError(f"{folder}: expected a run of gladd-train that was finished; not so: {', '.join(missing)}")
    return road


def run(arguments):
    """Runs a study and returns its rows."""
    options = parser().parse_args(arguments)
    use_threads(options.threads)
    if options.command == "nearest":
        good = pictures.read_all(options.good, options.size, options.size)
        labelled = read_labelled(options.data, options.size, options.size)
        scores, maps = Nearest(good, options.seed, options.bank).measure(labelled)
        return [{"name": "nearest neighbours", **figures(labelled, scores, maps), "kinds": by_kind(labelled, scores), "scores": scores.tolist()}]
    recipe, device = load(options.recipe), chosen_device(options.device)
    size, top_k = (recipe.image.width, recipe.image.height), recipe.score.top_k
    if options.anomalies < 1:
        raise TrainingError(f"--anomalies: expected at least 1, found {options.anomalies}")
    if options.command == "score":
        distances = options.distances.split(",")
        if not set(distances) <= {"nearest", "place"}:
            raise TrainingError(f"--distances: expected nearest, place or both with a comma, found {options.distances!r}")
        check_range("--sigmas", numbers("--sigmas", options.sigmas, float), "above 0 and below a quarter of map_size", lambda v: 0 < v < recipe.score.map_size / 4)
        check_range("--top-ks", numbers("--top-ks", options.top_ks, int), f"1 to {recipe.score.map_size**2}", lambda v: 1 <= v <= recipe.score.map_size**2)
        # What the recipe has now is among them.
        mine = lambda flag, text, kind, value: sorted({*numbers(flag, text, kind), value})
        grid = (distances, mine("--pixels", options.pixels, float, recipe.score.pixel), mine("--sigmas", options.sigmas, float, recipe.score.sigma),
                mine("--top-ks", options.top_ks, int, recipe.score.top_k))  # fmt: skip
        if (options.data is None) == (options.held_out is None):
            raise TrainingError("expected either --held-out or --data")
    if options.command == "settings":
        steps, min_steps = numbers("--steps", options.steps, int), numbers("--min-steps", options.min_steps, int)
        highest = recipe.denoiser.max_timestep
        check_range("--steps", steps, f"1 to {highest}, the denoiser's max_timestep", lambda v: 1 <= v <= highest)
        check_range("--min-steps", min_steps, "0 to 1000", lambda v: 0 <= v <= 1000)
    if recipe.score.object_mask != "none" or recipe.score.standardise != "none":
        print("gladd-study: object masks and maps standardised per location are left out of these figures", file=sys.stderr)
    road = trained(recipe, options.good, options.run, device)
    if options.command == "ablation":
        plain_recipe = load(options.plain[0])
        if plain_recipe.autoencoder != recipe.autoencoder or plain_recipe.seed != recipe.seed:
            raise TrainingError(f"{options.plain[0]}: expected the autoencoder and the seed of {options.recipe}: the UNets would see other latents")
        unet = trained(plain_recipe, options.good, options.plain[1], device).unet()
        if recipe.half:
            round_to_half(unet)
    held_out = pictures.read_all(options.held_out, *size, options.count) if options.held_out else None
    if held_out is not None:
        known = {p.tobytes() for p in road.good}
        if among := sum(p.tobytes() in known for p in held_out):
            raise TrainingError(f"--held-out {options.held_out}: expected good parts that are not in --good, found {among} of {len(held_out)} there")
        if len(held_out) < 2:
            raise TrainingError(f"--held-out {options.held_out}: expected at least 2 pictures, found {len(held_out)}")
    labelled = synthetic(held_out, recipe.seed, recipe.anomalies, options.anomalies) if getattr(options, "data", None) is None else read_labelled(options.data, *size)
    modules = road.modules()
    if options.command == "settings":
        return settings_grid(modules, labelled, held_out, recipe.denoise, top_k, steps, min_steps)
    if options.command == "score":
        return score_grid(modules, labelled, road.denoise(modules), recipe.score, *grid)
    return ablation(modules, {**modules, "unet": unet}, labelled, held_out, recipe.denoise, top_k)


def show(rows):
    """Prints rows as a table."""
    shown = [{k: v for k, v in row.items() if k not in ("scores", "kinds")} for row in rows]
    text = lambda v: f"{v:.3f}" if isinstance(v, float) else " to ".join(f"{x:.3f}" for x in v) if isinstance(v, tuple) else str(v)
    table = [list(shown[0])] + [[text(v) for v in row.values()] for row in shown]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    if len(rows) == 1:
        for kind, value in rows[0].get("kinds", {}).items():
            print(f"{kind:24} {value:.3f}")


def work(arguments):
    options = parser().parse_args(arguments)
    # What cannot be written shall be known before hours of work.
    target = open(options.json, "w") if options.json else None
    rows = run(arguments)
    show(rows)
    if target:
        with target:
            json.dump(rows, target)


def main():
    sys.exit(report("gladd-study", work))
