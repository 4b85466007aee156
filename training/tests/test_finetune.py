import copy

import numpy as np
import pytest
import torch

from gladd_training.loop import Options, Run, fit
from gladd_training.networks.features import Vit
from gladd_training.pictures import to_tensor
from gladd_training.stages import FinetuneStage, Pairs

SIDE = 64


def stage(contrast):
    torch.manual_seed(1)
    module = Vit(width=16, depth=4, heads=2, targets=None).eval().requires_grad_(False)
    rng = np.random.default_rng(2)
    reconstructions = rng.integers(90, 130, (6, SIDE, SIDE, 3), dtype=np.uint8)
    masks = np.zeros((6, SIDE, SIDE), bool)
    masks[3:, 20:36, 24:40] = True
    pictures = reconstructions.copy()
    pictures[masks] = (230, 40, 40)
    options = Options(steps=1, lr=1e-3, batch=6)
    return FinetuneStage(module, copy.deepcopy(module), Pairs(pictures, reconstructions, masks), options, torch.device("cpu"), SIDE, 0.01, contrast)


def test_the_paper_s_tuning_changes_the_mlps_of_the_tapped_blocks_only():
    tuning = stage(0.0)
    tuning.loss(np.random.default_rng(3))[0].backward()
    moved = {name for name, p in tuning.module.named_parameters() if p.grad is not None}
    assert moved == {f"blocks.{i - 1}.{name}" for i in tuning.module.taps for name, _ in tuning.module.blocks[i - 1].named_parameters() if name.startswith("mlp")}


def test_a_good_part_like_its_reconstruction_costs_nothing():
    tuning = stage(0.0)
    tuning.pairs = Pairs(tuning.pairs.pictures[:3], tuning.pairs.pictures[:3])
    loss, _ = tuning.loss(np.random.default_rng(3))
    assert abs(loss.item()) < 1e-4


def test_the_loss_is_the_official_one():
    tuning = stage(0.0)
    with torch.no_grad():
        for parameter in tuning.tuned:
            parameter.add_(0.05)
    tuning.pairs = Pairs(tuning.pairs.pictures, tuning.pairs.reconstructions)
    tuning.distillation = 0.5
    loss, _ = tuning.loss(np.random.default_rng(3))
    pictures, reconstructions, _ = tuning.batch(np.random.default_rng(3))
    cosine = torch.nn.CosineSimilarity()
    i, r = (tuning.module(to_tensor(p)) for p in (pictures, reconstructions))
    fi, fr = (tuning.untouched(to_tensor(p)) for p in (pictures, reconstructions))
    apart = lambda a, b: sum(torch.mean(1 - cosine(x.flatten(1), y.flatten(1))) for x, y in zip(a, b))
    assert loss.item() == pytest.approx((apart(i, r) + 0.5 * apart(i, fi) + 0.5 * apart(r, fr)).item(), rel=1e-4)


def test_a_tuning_with_contrast_cut_off_ends_in_the_same_weights(tmp_path):
    options = Options(steps=6, lr=1e-3, batch=6, checkpoint_every=3, sheet_every=3)
    run = lambda name: Run(tmp_path / name, 5, torch.device("cpu"), bf16=False, progress=False)

    def tuning(stop=None):
        made = stage(1.0)
        inner, made.calls = made.loss, 0

        def loss(rng):
            made.calls += 1
            if made.calls == stop:
                raise KeyboardInterrupt
            return inner(rng)

        made.loss = loss
        return made

    whole = fit(tuning(), "finetune", options, run("whole"), {})
    with pytest.raises(KeyboardInterrupt):
        fit(tuning(stop=5), "finetune", options, run("cut"), {})
    resumed = tuning()
    found = fit(resumed, "finetune", options, run("cut"), {})
    assert resumed.calls == 3
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), found.parameters()))


def test_contrast_pulls_anomalies_away_from_what_is_good():
    tuning = stage(1.0)
    optimizer = torch.optim.AdamW(tuning.parameters(), lr=1e-3)
    gaps = []
    for step in range(40):
        loss, figures = tuning.loss(np.random.default_rng(step))
        gaps.append(figures["inside"] - figures["outside"])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tuning.parameters(), 1.0)
        optimizer.step()
    assert sum(gaps[-10:]) > 1.2 * sum(gaps[:10]), gaps
