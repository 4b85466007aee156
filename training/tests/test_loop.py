import pytest
import torch
from torch import nn

from gladd_training import TrainingError, loop
from gladd_training.loop import Options, Run, finished, fit


class Line:
    """Fits y = 2x; from `bad` on its loss is NaN."""

    def __init__(self, bad=None, stop=None, error=KeyboardInterrupt()):
        torch.manual_seed(0)
        self.module, self.bad, self.stop, self.error, self.calls = nn.Linear(1, 1), bad, stop, error, 0
        self.beside = [nn.Parameter(torch.zeros(1))]

    def parameters(self):
        return [*self.module.parameters(), *self.beside]

    def loss(self, rng):
        self.calls += 1
        if self.calls == self.stop:
            raise self.error
        x = torch.randn(8, 1) + float(rng.standard_normal())
        loss = ((self.module(x) + self.beside[0] - 2 * x) ** 2).mean()
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
    assert finished(run(tmp_path / "cut"), "line")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_out_of_memory_stops_and_goes_on(tmp_path, error):
    with pytest.raises(TrainingError, match=r"line: out of memory at step 16; the last good checkpoint is .*, step 10. Free memory"):
        fit(Line(stop=17, error=error), "line", OPTIONS, run(tmp_path), {})
    assert not finished(run(tmp_path), "line")
    resumed = Line()
    fit(resumed, "line", OPTIONS, run(tmp_path), {})
    assert resumed.calls == 20


def test_an_error_of_another_kind_is_not_hidden(tmp_path):
    with pytest.raises(RuntimeError, match="sizes do not match"):
        fit(Line(stop=3, error=RuntimeError("sizes do not match")), "line", OPTIONS, run(tmp_path), {})


def test_a_finished_stage_is_not_trained_again(tmp_path):
    first = fit(Line(), "line", OPTIONS, run(tmp_path), {})
    again = Line()
    assert torch.equal(fit(again, "line", OPTIONS, run(tmp_path), {}).weight, first.weight)
    assert again.calls == 0


def test_nan_stops_and_names_the_last_good_checkpoint(tmp_path):
    with pytest.raises(TrainingError, match=r"the loss is nan.* at step 24; the last good checkpoint is .*checkpoint.pt, step 20. The same command would meet it again"):
        fit(Line(bad=25), "line", OPTIONS, run(tmp_path), {})
    state = torch.load(tmp_path / "line" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 20 and all(torch.isfinite(v).all() for v in state["module"].values())


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    fit(Line(), "line", OPTIONS, run(tmp_path), {"pictures": "a"})
    with pytest.raises(TrainingError, match="other settings or pictures:\n  pictures: b now, a then\nTo train anew delete"):
        fit(Line(), "line", OPTIONS, run(tmp_path), {"pictures": "b"})


def test_a_broken_checkpoint_is_refused(tmp_path):
    fit(Line(), "line", OPTIONS, run(tmp_path), {})
    checkpoint = tmp_path / "line" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="not a readable checkpoint.*Delete"):
        fit(Line(), "line", OPTIONS, run(tmp_path), {})


def test_a_stage_is_trained_by_one_process_at_a_time(tmp_path):
    held = loop._locked(tmp_path)
    with pytest.raises(TrainingError, match="another process trains this stage"):
        loop._locked(tmp_path)
    held.close()
    loop._locked(tmp_path).close()
