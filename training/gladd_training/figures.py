"""AUROC and its bootstrap, for measuring while a model is being made; `gladd eval` has the rest."""

import numpy as np


def auroc(good, bad):
    """The chance that a bad part scores higher than a good one; ties count half."""
    good, bad = np.sort(np.asarray(good)), np.asarray(bad)
    below = np.searchsorted(good, bad, "left") + np.searchsorted(good, bad, "right")
    return float(below.sum() / (2 * len(good) * len(bad)))


def pixel_auroc(maps, masks):
    """maps: float [N,S,S]; masks: bool [N,S,S]."""
    values, marked = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    return auroc(values[~marked], values[marked])


def bootstrap(good, bad, repetitions=2000, seed=0, other=None):
    """The 95 % interval of auroc(good, bad), parts drawn with replacement, good and bad ones apart.

    other: the (good, bad) scores of another method on the same parts: then the
    interval of the difference, the same draws for both.
    """
    rng, found = np.random.default_rng(seed), []
    good, bad = np.asarray(good), np.asarray(bad)
    for _ in range(repetitions):
        g, b = rng.integers(0, len(good), len(good)), rng.integers(0, len(bad), len(bad))
        value = auroc(good[g], bad[b])
        if other is not None:
            value -= auroc(np.asarray(other[0])[g], np.asarray(other[1])[b])
        found.append(value)
    return tuple(float(v) for v in np.quantile(found, (0.025, 0.975)))
