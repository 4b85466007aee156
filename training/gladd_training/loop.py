"""The training loop that all stages share.

What is random in a step is a pure function of the seed, the stage's name and the
step: a run that was cut off and goes on ends in the same weights.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from . import TrainingError


@dataclass
class Options:
    steps: int
    lr: float
    batch: int
    warmup: int = 50
    ema: float = 0.0  # 0: none; else the decay of the weights' moving average
    checkpoint_every: int = 250
    sheet_every: int = 500


@dataclass
class Run:
    """Where and how a stage is trained."""

    folder: Path
    seed: int
    device: torch.device
    bf16: bool = True
    progress: bool = True


def generators(seed, stage, step):
    """Seeds torch's global generator; returns NumPy's generator for the same step."""
    digest = hashlib.sha256(f"{seed}/{stage}/{step}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:7], "big"))
    return np.random.default_rng(list(digest[8:24]))


def rate(options, step):
    """The learning rate: a linear warm-up, then half a cosine down to a hundredth."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    share = (step - options.warmup) / max(options.steps - options.warmup, 1)
    return options.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(share, 1))))


def progress(steps, name, shown=True):
    """A bar on a terminal, nothing elsewhere."""
    return tqdm(steps, desc=name, disable=None if shown else True, mininterval=2, dynamic_ncols=True)


def write_atomically(path, write):
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")  # two stages may be trained beside each other
    write(temporary)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def out_of_memory(error):
    """Whether an error says that memory ran out: on a GPU, or in one of the ways that the CPU's allocator says so."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (isinstance(error, RuntimeError) and "alloc" in str(error).lower())


def settings(options, run, fingerprint):
    """What a stage's weights depend on, as nested dicts of plain values."""
    return json.loads(json.dumps({"seed": run.seed, "options": vars(options), **fingerprint}, sort_keys=True, default=str))


def differences(now, then, where=""):
    """The keys in which two nested dicts differ, each with both values."""
    if not (isinstance(now, dict) and isinstance(then, dict)):
        return [] if now == then else [f"{where}: {now} now, {then} then"]
    return [line for key in sorted({*now, *then}) for line in differences(now.get(key), then.get(key), f"{where}.{key}" if where else key)]


def trained_already(run, name):
    """The settings that a stage's checkpoint was trained with; None: there is no checkpoint."""
    try:
        return json.loads((run.folder / name / "settings.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def finished(run, name):
    """Whether a stage was trained to its end."""
    return (run.folder / name / "finished").exists()


def fit(stage, name, options, run, fingerprint):
    """Trains stage.module in place and returns it; goes on from a checkpoint, or at once where it was finished.

    stage.loss(rng) gives a step's loss and a dict of figures to log;
    stage.parameters() what is trained; stage.beside, where there is one, those of
    them that are no part of the module; stage.sheet() a picture, or None.
    fingerprint: what the result depends on besides the seed; a checkpoint of another one is refused.
    """
    folder = run.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        return _fit(stage, name, folder, options, run, fingerprint)


def _fit(stage, name, folder, options, run, fingerprint):
    checkpoint, step, saved = folder / "checkpoint.pt", 0, 0

    def stop(what, advice):
        last = f"the last good checkpoint is {checkpoint}, step {saved}" if saved else "there is no checkpoint yet"
        return TrainingError(f"{name}: {what} at step {step}; {last}. {advice}")

    def save():
        state = {"fingerprint": fingerprint, "step": step, "module": stage.module.state_dict(), "optimizer": optimizer.state_dict(), "beside": list(beside)}
        if average is not None:
            state["average"] = average
        write_atomically(checkpoint, lambda path: torch.save(state, path))
        write_atomically(folder / "settings.json", lambda path: path.write_text(fingerprint))

    now = settings(options, run, fingerprint)
    fingerprint = json.dumps(now, sort_keys=True)
    parameters, beside = list(stage.parameters()), getattr(stage, "beside", [])
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, weight_decay=0.01)
    average = [p.detach().clone() for p in parameters] if options.ema else None
    if checkpoint.exists():
        try:
            state = torch.load(checkpoint, map_location=run.device, weights_only=True)
        except Exception as error:  # pickle, zip and system errors alike
            raise TrainingError(f"{checkpoint}: not a readable checkpoint: {error}. Delete {folder} to train this stage anew.") from error
        if state["fingerprint"] != fingerprint:
            raise OtherSettings([(folder, differences(now, json.loads(state["fingerprint"])))])
        step = saved = state["step"]
        if step < options.steps:
            print(f"{name}: goes on from step {step}")
        stage.module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            for mine, kept in zip([*(average or []), *beside], [*state.get("average", []), *state.get("beside", [])], strict=True):
                mine.copy_(kept)
        del state
    if step < options.steps:
        from torch.utils.tensorboard import SummaryWriter

        log = SummaryWriter(folder / "log")
        bar = tqdm(total=options.steps, initial=step, desc=name, unit="step", disable=not run.progress, mininterval=2, dynamic_ncols=True)
        stage.module.train()
        try:
            while step < options.steps:
                rng = generators(run.seed, name, step)
                for group in optimizer.param_groups:
                    group["lr"] = rate(options, step)
                with torch.autocast(run.device.type, torch.bfloat16) if run.bf16 else contextlib.nullcontext():
                    loss, figures = stage.loss(rng)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
                    raise stop(f"the loss is {loss.item()}, its gradient's norm {norm.item()}",
                               f"The same command would meet it again. Set a lower {name}.lr in the recipe and delete {folder}: another rate trains this stage anew.")  # fmt: skip
                optimizer.step()
                if average is not None:
                    decay = min(options.ema, (1 + step) / (10 + step))
                    with torch.no_grad():
                        for mine, current in zip(average, parameters):
                            mine.lerp_(current, 1 - decay)
                step += 1
                bar.update()
                if step % 20 == 0 or step == options.steps:
                    bar.set_postfix_str(" ".join(f"{k} {v:.4g}" for k, v in figures.items()))
                    for key, value in figures.items():
                        log.add_scalar(f"{name}/{key}", value, step)
                if step % options.checkpoint_every == 0 or step == options.steps:
                    save()
                    saved = step
                if step % options.sheet_every == 0 or step == options.steps:
                    with _averaged(parameters, average):
                        _sheet(stage, folder, step, run)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise stop("out of memory",
                       f"Free memory and run the same command again: it goes on from there. Or set a lower {name}.batch in the recipe and delete {folder}: "
                       "another batch trains this stage anew.") from error  # fmt: skip
        finally:
            bar.close()
            log.close()
    (folder / "finished").touch()
    if average is not None:
        with torch.no_grad():
            for current, mine in zip(parameters, average):
                current.copy_(mine)
    stage.module.eval().requires_grad_(False)
    return stage.module


class OtherSettings(TrainingError):
    """Checkpoints that do not fit the recipe: folders, each with the lines that differ."""

    def __init__(self, found):
        # A stage's options are its part of the recipe, which names what it sets as well.
        words = lambda folder, lines: dict.fromkeys(line.replace("options.", f"{folder.name}.", 1) for line in lines)
        each = [f"{folder} was trained with other settings or pictures:\n  " + "\n  ".join(words(folder, lines)) for folder, lines in found]
        self.lines = "\n".join(each)
        super().__init__(f"{self.lines}\nTo train anew delete {', '.join(str(folder) for folder, _ in found)}, or name another --out.")


def _locked(folder):
    """A file that one process has at a time, until it is closed or the process ends."""
    file = open(folder / "lock", "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise TrainingError(f"{folder}: another process trains this stage; wait for it, or name another --out") from error
    return file


def _sheet(stage, folder, step, run):
    stage.module.eval()
    generators(run.seed, "sheet", 0)
    with torch.no_grad():
        sheet = stage.sheet()
    stage.module.train()
    if sheet is not None:
        write_atomically(folder / f"sheet-{step:06d}.png", lambda path: sheet.save(path, "PNG"))


@contextlib.contextmanager
def _averaged(parameters, average):
    """The moving average in place of the weights, for as long as it is looked at."""
    if average is None:
        yield
        return
    kept = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for now, mine in zip(parameters, average):
            now.copy_(mine)
    try:
        yield
    finally:
        with torch.no_grad():
            for now, was in zip(parameters, kept):
                now.copy_(was)
