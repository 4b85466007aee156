"""Maps, masks and scores with the figures that scikit-learn finds, and the
per-region overlap computed directly from its definition with scikit-image."""

import json
import pathlib

import numpy as np
from PIL import Image
from skimage import measure
from sklearn import metrics


def per_region_overlap(masks, maps):
    """200 thresholds from the lowest value, the highest excluded; strictly
    above; mean overlap of 8-connected regions over the false positive rate below
    0.3, divided by the largest such rate."""
    maps = maps.astype(np.float64)
    lowest, highest = maps.min(), maps.max()
    labels = [measure.label(mask, connectivity=2) for mask in masks]
    rates, overlaps = [], []
    for i in range(200):
        above = maps > lowest + i * ((highest - lowest) / 200)
        rate = above[~masks].mean()
        if rate >= 0.3:
            continue
        found = [above[p][labels[p] == r].mean() for p in range(len(maps)) for r in range(1, labels[p].max() + 1)]
        rates.append(rate)
        overlaps.append(np.mean(found))
    return metrics.auc(np.array(rates) / max(rates), overlaps)


def f1_max(truth, scores):
    precision, recall, _ = metrics.precision_recall_curve(truth, scores)
    with np.errstate(invalid="ignore"):
        f1 = 2 * precision * recall / (precision + recall)
    return f1[np.isfinite(f1)].max()


def figures(masks, maps, scores, labels, overlap=None):
    """masks: None where there is none; those pictures have no pixel figures."""
    expected = dict.fromkeys(["image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap", "pixel_f1max", "pro"])
    if 0 < sum(labels) < len(labels):
        expected["image_auroc"] = metrics.roc_auc_score(labels, scores)
        expected["image_ap"] = metrics.average_precision_score(labels, scores)
        expected["image_f1max"] = f1_max(labels, scores)
    if any(mask is not None for mask, label in zip(masks, labels) if label):
        kept = [i for i in range(len(maps)) if not labels[i] or masks[i] is not None]
        size = maps.shape[1]
        resized = np.stack([np.zeros((size, size), bool) if masks[i] is None else np.asarray(Image.fromarray(masks[i]).resize((size, size), Image.NEAREST)) > 127 for i in kept])
        truth, values = resized.ravel(), maps[kept].ravel()
        expected["pixel_auroc"] = metrics.roc_auc_score(truth, values)
        expected["pixel_ap"] = metrics.average_precision_score(truth, values)
        expected["pixel_f1max"] = f1_max(truth, values)
        expected["pro"] = per_region_overlap(resized, maps[kept]) if overlap is None else overlap
    return expected


def blobs(random, width, height, count):
    mask = np.zeros((height, width), np.uint8)
    y, x = np.mgrid[:height, :width]
    for _ in range(count):
        cx, cy, r = random.uniform(0, width), random.uniform(0, height), random.uniform(0.06, 0.2) * width
        mask[(x - cx) ** 2 + (y - cy) ** 2 <= r * r] = 255
    # Two pixels that touch at their corners: one region.
    mask[0, 0] = mask[1, 1] = 255
    return mask


def cases(folder: pathlib.Path):
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(5)
    size, pictures = 24, 10
    expected = {}

    def case(name, signal, width=size, height=size, quantise=None, labels=None, unmasked=(), constant=False, overlap=None, perfect=False):
        labels = [i % 2 for i in range(pictures)] if labels is None else labels
        masks = [blobs(random, width, height, 1 + i % 3) if label else None for i, label in enumerate(labels)]
        maps = random.gamma(2.0, 0.1, (pictures, size, size)).astype(np.float32)
        for i, mask in enumerate(masks):
            if mask is not None:
                inside = np.asarray(Image.fromarray(mask).resize((size, size), Image.NEAREST)) > 127
                maps[i][inside] += np.float32(signal)
        if quantise:
            maps = (np.round(maps * quantise) / quantise).astype(np.float32)
        if constant:
            maps[:] = 0.25
        if perfect:
            maps = np.stack([np.zeros((size, size)) if m is None else m / 255 for m in masks]).astype(np.float32)
        # Rounded, so that some are equal.
        scores = [round(float(m.max() + random.normal(0, 0.3)), 1) for m in maps]
        masks = [None if i in unmasked else mask for i, mask in enumerate(masks)]
        np.save(folder / f"{name}.maps.npy", maps)
        for i, mask in enumerate(masks):
            if mask is not None:
                Image.fromarray(mask).save(folder / f"{name}.{i}.mask.png")
        expected[name] = {"labels": labels, "scores": scores, "figures": figures(masks, maps, scores, labels, overlap)}

    case("weak", 0.1)
    case("strong", 0.5)
    case("ties", 0.15, quantise=10)
    case("coarse_ties", 0.2, quantise=4)
    # No curve: what gladd says of these two is a definition of its own.
    case("constant", 0.0, constant=True, overlap=0.0)
    case("perfect", 0.0, perfect=True, overlap=1.0)
    case("inverted", -0.15)
    case("larger_masks", 0.2, width=61, height=50)
    case("smaller_masks", 0.2, width=10, height=13)
    case("no_defective", 0.2, labels=[0] * pictures)
    case("no_good", 0.2, labels=[1] * pictures)
    case("no_masks", 0.2, unmasked=range(pictures))
    case("some_masks", 0.2, unmasked=(1, 5))
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
