"""Pictures of good parts: found, read and prepared as the daemon prepares them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from . import TrainingError

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


# What MVTec AD's layout has beside good parts.
OTHERS = ("test", "ground_truth", "train")


def find_good(folder):
    """The pictures of good parts below a folder; a whole set with defective parts in it is refused."""
    others = [name for name in OTHERS if (Path(folder) / name).is_dir()]
    if others:
        raise TrainingError(f"{folder}: expected a folder of good parts alone, found a set with {', '.join(others)} in it; name its train/good, say")
    return find(folder, "pictures of good parts")


def find(folder, what):
    """The pictures below a folder, in the order of their paths."""
    folder = Path(folder)
    if folder.is_file():
        raise TrainingError(f"{folder}: expected a folder of {what}, found a file")
    if not folder.is_dir():
        raise TrainingError(f"{folder}: expected a folder of {what}, found none")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
    if not found:
        raise TrainingError(f"{folder}: no pictures ({', '.join(sorted(ENDINGS))}) in it or below it")
    return found


def read(path, width, height):
    """uint8 [H,W,3]: EXIF orientation, RGB, then Pillow's antialiased bilinear."""
    try:
        with Image.open(path) as picture:
            picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I"):
                # 16 bit: divided by 257 and rounded, as the daemon does.
                gray = np.asarray(picture, np.uint32)
                picture = Image.fromarray(((gray + 128) // 257).astype(np.uint8))
            picture = picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise TrainingError(f"{path}: not a readable picture: {error}") from error
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def read_all(folder, width, height, limit=0):
    """uint8 [N,H,W,3]: good parts; the first `limit` of them where it is not 0."""
    paths = find_good(folder)
    if limit:
        paths = paths[:limit]
    return np.stack([read(p, width, height) for p in paths])


def to_tensor(pictures):
    """uint8 [N,H,W,3] -> float32 [N,3,H,W] in [-1,1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def to_uint8(images):
    """float [N,3,H,W] in [-1,1] -> uint8 [N,H,W,3], clipped."""
    return images.detach().float().add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def sheet(rows):
    """One picture of rows of pictures, each row uint8 [N,H,W,3] of the same shape."""
    return Image.fromarray(np.concatenate([np.concatenate(list(row), 1) for row in rows], 0))
