"""The command gladd-train."""

import argparse
import os
import shlex
import sys
from pathlib import Path

import torch

from . import TrainingError
from .loop import Run, out_of_memory
from .recipe import load
from .road import Road

STAGES = ("autoencoder", "denoiser", "features", "finetune")


def parser():
    p = argparse.ArgumentParser(
        prog="gladd-train",
        description="Trains the networks of a gladd bundle from pictures of good parts, and exports the bundle. "
        "Run again after an interruption, it goes on from the last checkpoint.",
    )
    p.add_argument("recipe", help="YAML file with the networks' sizes and how long to train them")
    p.add_argument("--good", required=True, metavar="DIR", help="pictures of good parts; keep those that calibrate the bundle out of it")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for checkpoints, logs for TensorBoard, and sheets of samples")
    p.add_argument("--bundle", metavar="DIR", help="folder of the new bundle; default: bundle in --out")
    p.add_argument("--stage", choices=STAGES, help="train this network only (and what it needs), and export nothing")
    p.add_argument("--note", default="", metavar="TEXT", help="kept in the bundle's provenance: where the pictures come from, say")
    p.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: a GPU where there is one")
    p.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads; default: all cores")
    p.add_argument("--quiet", action="store_true", help="no progress bars")
    return p


def use_threads(count):
    """Of --threads; 0: all cores."""
    if count < 0:
        raise TrainingError(f"--threads: expected a number of at least 0 (all cores), found {count}")
    if count:
        torch.set_num_threads(count)


def chosen_device(name):
    """The device of --device."""
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("--device cuda: PyTorch finds no usable GPU on this machine; expected one, or --device cpu")
    # cuBLAS repeats its results with this, read when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def run(arguments):
    options = parser().parse_args(arguments)
    device = chosen_device(options.device)
    use_threads(options.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs a seventh of the time, and nothing reads it
    recipe = load(options.recipe)
    bundle = Path(options.bundle or Path(options.out) / "bundle")
    if Path(options.out).exists() and not Path(options.out).is_dir():
        raise TrainingError(f"--out {options.out}: expected a folder, found a file")
    exists = ""
    if options.stage is None and bundle.exists():
        exists = f"{bundle} exists. A bundle never changes: name another folder with --bundle, or delete this one first."
    try:
        road = Road(recipe, options.good, Run(Path(options.out), recipe.seed, device, progress=not options.quiet))
    except TrainingError as error:
        raise TrainingError(f"{error}\n{exists}".strip()) from error
    if exists:
        raise TrainingError(exists)
    print(f"{len(road.good)} pictures of good parts in {options.good}; training on {device.type}")
    if options.stage:
        part = getattr(recipe, options.stage)
        if options.stage in road.done():
            print(f"{options.stage}: trained already; delete {Path(options.out) / options.stage} to train it anew")
        if not part.steps or (options.stage == "features" and (part.path or part.network == "teacher")):
            print(f"{options.stage}: nothing to train; the recipe takes it as it is")
        {"autoencoder": road.autoencoder, "denoiser": road.unet, "features": road.untuned, "finetune": road.features}[options.stage]()
        return
    differences = road.export(bundle, "gladd-train " + shlex.join(arguments), options.note)
    for name, difference in differences.items():
        print(f"{name:12} {(bundle / f'{name}.onnx').stat().st_size / 1e6:7.2f} MB   differs from torch by at most {difference:.1e}")
    print(f"bundle: {bundle}\nnext:   gladd calibrate --bundle {shlex.quote(str(bundle))} --good DIR   (good parts that were not in --good)")


def report(program, work, interrupted="interrupted"):
    """Runs a command's work and turns what a user can mend into a message; returns the exit code."""
    try:
        work(sys.argv[1:])
        return 0
    except TrainingError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or 'a file'}: {error.strerror or error}"
    except KeyboardInterrupt:
        print(f"{program}: {interrupted}", file=sys.stderr)
        return 130
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        message = "out of memory outside of a network's training: fewer or smaller pictures need less. What was finished is kept"
    print(f"{program}: {message}", file=sys.stderr)
    return 2


def main():
    sys.exit(report("gladd-train", run, "interrupted; the same command goes on from the last checkpoint, which is at most 250 steps old"))
