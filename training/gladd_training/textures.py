"""Pictures of nothing: procedural textures, without end, and free of anyone's rights.

They serve as what a synthetic anomaly is made of where there is no DTD, and as
what a feature network is taught on.
"""

import numpy as np
from PIL import Image, ImageDraw

from .pictures import find, read


def smooth_noise(rng, height, width, cells_y, cells_x):
    """float32 [H,W] in [-1,1]: values on a random grid, interpolated bicubically."""
    grid = rng.uniform(-1, 1, (cells_y + 3, cells_x + 3)).astype(np.float32)
    scaled = Image.fromarray(grid).resize((width * (cells_x + 3) // cells_x + 2, height * (cells_y + 3) // cells_y + 2), Image.Resampling.BICUBIC)
    field = np.asarray(scaled)
    y, x = rng.integers(0, field.shape[0] - height + 1), rng.integers(0, field.shape[1] - width + 1)
    return np.clip(field[y : y + height, x : x + width], -1, 1)


def perlin(rng, height, width, scale_y, scale_x):
    """float32 [H,W], about [-1,1]: gradient noise (Perlin 1985, fade of 2002) of scale_y x scale_x cells."""
    angles = rng.uniform(0, 2 * np.pi, (scale_y + 1, scale_x + 1))
    gradient = np.stack([np.sin(angles), np.cos(angles)], -1).astype(np.float32)
    y = np.arange(height, dtype=np.float32) * scale_y / height
    x = np.arange(width, dtype=np.float32) * scale_x / width
    iy, ix = y.astype(int), x.astype(int)
    fy, fx = (y - iy)[:, None], (x - ix)[None, :]

    def corner(dy, dx):
        g = gradient[(iy + dy)[:, None], (ix + dx)[None, :]]
        return g[..., 0] * (fy - dy) + g[..., 1] * (fx - dx)

    fade = lambda t: t**3 * (t * (t * 6 - 15) + 10)
    wy, wx = fade(fy), fade(fx)
    top = corner(0, 0) * (1 - wx) + corner(0, 1) * wx
    bottom = corner(1, 0) * (1 - wx) + corner(1, 1) * wx
    return (top * (1 - wy) + bottom * wy) * np.float32(2**0.5)


def _fractal(rng, h, w):
    total, weight = np.zeros((h, w), np.float32), 1.0
    stretch = 2 ** rng.integers(0, 4)
    for octave in range(rng.integers(2, 7)):
        cells = 2**octave
        total += weight * smooth_noise(rng, h, w, min(cells * stretch, h // 2), cells)
        weight *= rng.uniform(0.4, 0.9)
    return total


def _stripes(rng, h, w):
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), 2 ** rng.uniform(1.5, 6)
    phase = (x * np.cos(angle) + y * np.sin(angle)) / period + rng.uniform(0, 0.6) * smooth_noise(rng, h, w, 3, 3)
    wave = np.sin(2 * np.pi * phase)
    return np.sign(wave) if rng.random() < 0.4 else wave


def _checker(rng, h, w):
    return _stripes(rng, h, w) * _stripes(rng, h, w)


def _cells(rng, h, w):
    """Distance to the nearest of random points (Worley 1996)."""
    n = int(2 ** rng.uniform(2, 7))
    points = rng.uniform(0, 1, (n, 2)) * (h, w)
    y, x = np.mgrid[0:h:2, 0:w:2].astype(np.float32)
    distance = np.full(y.shape, np.inf, np.float32)
    for py, px in points:
        distance = np.minimum(distance, (y - py) ** 2 + (x - px) ** 2)
    field = np.sqrt(distance) / np.sqrt(h * w / n)
    return np.asarray(Image.fromarray(field.astype(np.float32)).resize((w, h), Image.Resampling.BILINEAR)) * 2 - 1


def _grain(rng, h, w):
    return rng.standard_normal((h, w)).astype(np.float32)


PATTERNS = (_fractal, _fractal, _stripes, _checker, _cells, _grain)


def _colours(rng, field):
    """uint8 [H,W,3]: a field through a random palette."""
    low, high = field.min(), field.max()
    unit = (field - low) / max(high - low, 1e-6)
    stops = rng.integers(2, 5)
    if rng.random() < 0.4:
        palette = np.repeat(rng.uniform(0, 255, (stops, 1)), 3, 1)
    else:
        palette = rng.uniform(0, 255, (stops, 3))
    at = np.linspace(0, 1, stops)
    return np.stack([np.interp(unit, at, palette[:, c]) for c in range(3)], -1)


def _shapes(rng, picture, count):
    """Discs, bars, lines and polygons on a picture: edges, corners, holes."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    h, w = picture.shape[:2]
    for _ in range(count):
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        if rng.random() < 0.4:
            colour = (colour[0],) * 3
        x, y = rng.integers(0, w), rng.integers(0, h)
        size = int(2 ** rng.uniform(1, 6.5))
        match rng.integers(0, 5):
            case 0:
                draw.ellipse((x - size, y - size, x + size, y + size), fill=colour)
            case 1:
                draw.rectangle((x, y, x + size, y + int(2 ** rng.uniform(1, 6.5))), fill=colour)
            case 2:
                draw.line((x, y, x + rng.integers(-w, w) // 2, y + rng.integers(-h, h) // 2), fill=colour, width=int(rng.integers(1, 5)))
            case 3:
                draw.polygon([(x + int(dx), y + int(dy)) for dx, dy in rng.uniform(-size, size, (rng.integers(3, 7), 2))], fill=colour)
            case 4:
                draw.ellipse((x - size, y - size, x + size, y + size), outline=colour, width=int(rng.integers(1, 5)))
    return np.asarray(image)


def texture(rng, height, width):
    """uint8 [H,W,3]: a procedural texture."""
    return np.clip(_colours(rng, PATTERNS[rng.integers(len(PATTERNS))](rng, height, width)), 0, 255).astype(np.uint8)


def scene(rng, height, width):
    """uint8 [H,W,3]: textures in regions, shapes on them, shading and noise: what a picture of things is made of."""
    picture = texture(rng, height, width)
    for _ in range(rng.integers(0, 4)):
        where = smooth_noise(rng, height, width, *(int(v) for v in rng.integers(1, 6, 2))) > rng.uniform(-0.3, 0.5)
        picture = np.where(where[..., None], texture(rng, height, width), picture)
    picture = _shapes(rng, np.ascontiguousarray(picture), int(rng.integers(0, 16)))
    shade = 1 + rng.uniform(0, 0.4) * smooth_noise(rng, height, width, 1, 1)[..., None]
    noisy = picture * shade + rng.normal(0, rng.uniform(0, 6), picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


class Textures:
    """What synthetic anomalies are made of: the pictures of a folder (such as DTD), or procedural ones."""

    def __init__(self, folder=None):
        self.paths = find(folder, "textures") if folder else None

    def draw(self, rng, height, width):
        """uint8 [H,W,3]."""
        if self.paths is None:
            return texture(rng, height, width)
        return read(self.paths[rng.integers(len(self.paths))], width, height)
