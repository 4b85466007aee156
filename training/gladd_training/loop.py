"""The training loop that all stages share.

What is random in a step is a pure function of the seed, the stage's name and the
step: a run that was cut off and goes on ends in the same weights.
"""

import contextlib
import hashlib
import json
import math
import os
from dataclasses import dataclass, field
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
    tags: dict = field(default_factory=dict)


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


def write_atomically(path, write):
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")  # two stages may be trained beside each other
    write(temporary)
    os.replace(temporary, path)


def fit(stage, name, options, run, fingerprint):
    """Trains stage.module in place and returns it; goes on from a checkpoint, or at once where it was finished.

    stage.loss(rng) gives a step's loss and a dict of figures to log;
    stage.parameters() what is trained; stage.sheet() a picture, or None.
    fingerprint: what the result depends on besides the seed; a checkpoint of another one is refused.
    """
    folder = run.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    fingerprint = json.dumps({"seed": run.seed, "options": vars(options), **fingerprint}, sort_keys=True, default=str)
    parameters = list(stage.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, weight_decay=0.01)
    average = [p.detach().clone() for p in parameters] if options.ema else None
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=run.device, weights_only=True)
        if state["fingerprint"] != fingerprint:
            raise TrainingError(
                f"{checkpoint} comes from other settings or pictures than now; expected\n  {fingerprint}\nfound\n  {state['fingerprint']}\n"
                f"Delete {folder} to train anew, or name another --out."
            )
        step = state["step"]
        stage.module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        if average is not None:
            for mine, kept in zip(average, state["average"], strict=True):
                mine.copy_(kept)

    def save():
        state = {"fingerprint": fingerprint, "step": step, "module": stage.module.state_dict(), "optimizer": optimizer.state_dict()}
        if average is not None:
            state["average"] = average
        write_atomically(checkpoint, lambda path: torch.save(state, path))

    def stop(what):
        last = f"the last good checkpoint is {checkpoint}, step {saved}" if saved else "there is no checkpoint yet"
        return TrainingError(f"{name}: {what} at step {step}; {last}. Run the same command again to go on from there; a lower lr or batch in the recipe may help.")

    saved = step
    if step < options.steps:
        from torch.utils.tensorboard import SummaryWriter

        log = SummaryWriter(folder / "log")
        bar = tqdm(total=options.steps, initial=step, desc=name, unit="step", disable=not run.progress, mininterval=2, dynamic_ncols=True)
        stage.module.train()
        while step < options.steps:
            rng = generators(run.seed, name, step)
            for group in optimizer.param_groups:
                group["lr"] = rate(options, step)
            try:
                with torch.autocast(run.device.type, torch.bfloat16) if run.bf16 else contextlib.nullcontext():
                    loss, figures = stage.loss(rng)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
            except (torch.OutOfMemoryError, MemoryError) as error:
                raise stop("out of memory") from error
            except RuntimeError as error:
                if "alloc" not in str(error).lower():
                    raise
                raise stop("out of memory") from error
            norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
                raise stop(f"the loss is {loss.item()}, its gradient's norm {norm.item()}")
            optimizer.step()
            if average is not None:
                decay = min(options.ema, (1 + step) / (10 + step))
                with torch.no_grad():
                    for mine, now in zip(average, parameters):
                        mine.lerp_(now, 1 - decay)
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
        bar.close()
        log.close()
    if average is not None:
        with torch.no_grad():
            for now, mine in zip(parameters, average):
                now.copy_(mine)
    stage.module.eval().requires_grad_(False)
    return stage.module


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
