"""Synthetic anomalies on pictures of good parts.

As in MemSeg (Yang 2022) and DRAEM (Zavrtanik 2021), with the settings of GLAD's
training: Perlin masks above 0.3 at scales 2^0 to 2^5, cut to the foreground;
filled with a foreign texture or with the part's own 8x8 grid, shuffled; blended
with a transparency of up to 0.8.
"""

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from .textures import perlin

MASK_THRESHOLD = 0.3
SCALES = 6  # 2^0 ... 2^5
GRID = 8
TRANSPARENCY = 0.8


def otsu(picture):
    """Otsu's threshold (1979) of an uint8 RGB picture's gray, 0 to 255."""
    gray = np.asarray(Image.fromarray(picture).convert("L"))
    counts = np.bincount(gray.ravel(), minlength=256).astype(np.float64)
    levels = np.arange(256)
    below = np.cumsum(counts)
    above = below[-1] - below
    mean_below = np.cumsum(counts * levels) / np.maximum(below, 1)
    mean_above = ((counts * levels).sum() - np.cumsum(counts * levels)) / np.maximum(above, 1)
    return int(np.argmax(below * above * (mean_below - mean_above) ** 2))


def foreground(picture, kind):
    """bool [H,W]: where anomalies may lie. kind: all, dark (the object is darker), bright."""
    if kind == "all":
        return np.ones(picture.shape[:2], bool)
    gray = np.asarray(Image.fromarray(picture).convert("L"))
    threshold = otsu(picture)
    return gray <= threshold if kind == "dark" else gray > threshold


def _affine(image, rng):
    return image.rotate(float(rng.uniform(-45, 45)), Image.Resampling.BILINEAR)


def _hue(image, rng):
    hsv = np.array(image.convert("HSV"))
    hsv[..., 0] = (hsv[..., 0].astype(int) + rng.integers(-50, 51)) % 256
    hsv[..., 1] = np.clip(hsv[..., 1].astype(int) + rng.integers(-50, 51), 0, 255)
    return Image.fromarray(hsv, "HSV").convert("RGB")


def _gamma(image, rng):
    gamma = rng.uniform(0.5, 2)
    return image.point([round(255 * (v / 255) ** gamma) for v in range(256)] * 3)


def _brightness(image, rng):
    factor, shift = rng.uniform(0.8, 1.2), rng.uniform(-30, 30)
    return image.point([min(255, max(0, round(v * factor + shift))) for v in range(256)] * 3)


# DRAEM's ten, of which three are applied.
AUGMENTERS = (
    _gamma,
    _brightness,
    lambda image, rng: ImageEnhance.Sharpness(image).enhance(float(rng.uniform(1, 4))),
    _hue,
    lambda image, rng: ImageOps.solarize(image, int(rng.integers(32, 129))),
    lambda image, rng: ImageOps.posterize(image, int(rng.integers(2, 7))),
    lambda image, rng: ImageOps.invert(image),
    lambda image, rng: ImageOps.autocontrast(image),
    lambda image, rng: ImageOps.equalize(image),
    _affine,
)


def augment(picture, rng):
    """uint8 [H,W,3]: three of the ten augmenters, in random order."""
    image = Image.fromarray(picture)
    for i in rng.choice(len(AUGMENTERS), 3, replace=False):
        image = AUGMENTERS[i](image, rng)
    return np.asarray(image)


def shuffled_grid(picture, rng):
    """The picture with the cells of an 8x8 grid in random order."""
    h, w = picture.shape[0] // GRID, picture.shape[1] // GRID
    cells = [picture[y * h : (y + 1) * h, x * w : (x + 1) * w] for y in range(GRID) for x in range(GRID)]
    order = rng.permutation(len(cells))
    rows = [np.concatenate([cells[order[y * GRID + x]] for x in range(GRID)], 1) for y in range(GRID)]
    shuffled = picture.copy()
    shuffled[: h * GRID, : w * GRID] = np.concatenate(rows, 0)
    return shuffled


def mask(rng, height, width):
    """bool [H,W]: Perlin noise above the threshold, rotated."""
    sy, sx = 2 ** rng.integers(0, SCALES, 2)
    noise = perlin(rng, height, width, int(sy), int(sx))
    noise = np.asarray(Image.fromarray(noise).rotate(float(rng.uniform(-90, 90)), Image.Resampling.BILINEAR))
    return noise > MASK_THRESHOLD


def scratch(rng, height, width):
    """bool [H,W]: a short thin streak; Perlin masks are never so narrow."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    cy, cx, angle = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0, np.pi)
    along = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
    across = -(x - cx) * np.sin(angle) + (y - cy) * np.cos(angle) + rng.uniform(-0.01, 0.01) * along**2
    return (np.abs(along) < rng.uniform(4, width / 5)) & (np.abs(across) < rng.uniform(0.6, 3))


def spot(rng, height, width):
    """bool [H,W]: a small ellipse."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    cy, cx, angle = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0, np.pi)
    u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
    v = -(x - cx) * np.sin(angle) + (y - cy) * np.cos(angle)
    a, b = width * 2 ** rng.uniform(-6.5, -3.5, 2)
    return (u / a) ** 2 + (v / b) ** 2 < 1


def synthesise(picture, rng, textures, where="all", small=0.0):
    """A part with a synthetic anomaly: uint8 [H,W,3], and its mask, bool [H,W].

    small: the share of streaks and spots in place of Perlin masks (0 in the
    paper's training). An attempt whose mask misses the foreground is drawn again.
    """
    height, width = picture.shape[:2]
    object_mask = foreground(picture, where)
    for _ in range(20):
        shape = mask
        if rng.random() < small:
            shape = scratch if rng.random() < 0.5 else spot
        anomaly = shape(rng, height, width) & object_mask
        if anomaly.sum() >= 12:
            break
    else:
        return picture.copy(), np.zeros((height, width), bool)
    if rng.random() < 0.5:
        source = augment(textures.draw(rng, height, width), rng)
    else:
        source = shuffled_grid(augment(picture, rng), rng)
    transparency = rng.uniform(0, TRANSPARENCY)
    # A soft edge of about a pixel, as a lens gives; a hard one would tell.
    soft = Image.fromarray((anomaly * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6))
    weight = (1 - transparency) * np.asarray(soft, np.float32)[..., None] / 255
    blended = weight * source + (1 - weight) * picture
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8), anomaly
