import pytest
import torch
from torch import nn

from gladd_training import TrainingError
from gladd_training.loop import Options, Run, fit


class Line:
    """Fits y = 2x; from `bad` on its loss is NaN."""

    def __init__(self, bad=None, stop=None):
        torch.manual_seed(0)
        self.module, self.bad, self.stop, self.calls = nn.Linear(1, 1), bad, stop, 0

    def parameters(self):
        return self.module.parameters()

    def loss(self, rng):
        self.calls += 1
        if self.calls == self.stop:
            raise KeyboardInterrupt
        x = torch.randn(8, 1) + float(rng.standard_normal())
        loss = ((self.module(x) - 2 * x) ** 2).mean()
        if self.calls == self.bad:
            loss = loss * float("nan")
        return loss, {"loss": loss.item()}

    def sheet(self):
        return None


OPTIONS = Options(steps=30, lr=0.1, batch=8, warmup=2, ema=0.9, checkpoint_every=10, sheet_every=15)


def run(folder):
    return Run(folder, seed=5, device=torch.device("cpu"), bf16=False, progress=False)


def test_a_run_cut_off_ends_in_the_same_weights(tmp_path):
    whole = fit(Line(), "line", OPTIONS, run(tmp_path / "whole"), {})
    with pytest.raises(KeyboardInterrupt):
        fit(Line(stop=17), "line", OPTIONS, run(tmp_path / "cut"), {})
    resumed_stage = Line()
    resumed = fit(resumed_stage, "line", OPTIONS, run(tmp_path / "cut"), {})
    assert resumed_stage.calls == 20  # from step 10, its last checkpoint
    assert torch.equal(whole.weight, resumed.weight) and torch.equal(whole.bias, resumed.bias)


def test_a_finished_stage_is_not_trained_again(tmp_path):
    first = fit(Line(), "line", OPTIONS, run(tmp_path), {})
    again = Line()
    assert torch.equal(fit(again, "line", OPTIONS, run(tmp_path), {}).weight, first.weight)
    assert again.calls == 0


def test_nan_stops_and_names_the_last_good_checkpoint(tmp_path):
    with pytest.raises(TrainingError, match=r"the loss is nan.* at step 24; the last good checkpoint is .*checkpoint.pt, step 20"):
        fit(Line(bad=25), "line", OPTIONS, run(tmp_path), {})
    state = torch.load(tmp_path / "line" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 20 and all(torch.isfinite(v).all() for v in state["module"].values())


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    fit(Line(), "line", OPTIONS, run(tmp_path), {"pictures": "a"})
    with pytest.raises(TrainingError, match="other settings or pictures"):
        fit(Line(), "line", OPTIONS, run(tmp_path), {"pictures": "b"})
