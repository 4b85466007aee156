"""Pictures, and what Pillow, OpenCV and SciPy make of them."""

import io
import json

import cv2
import numpy as np
from PIL import Image, ImageOps

import glad


def texture(width, height, seed):
    """Sharp edges, gradients and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 255 / max(width - 1, 1), y * 255 / max(height - 1, 1), 255 * ((x // 3 + y // 5) % 2)], -1)
    return (rgb + rng.normal(0, 40, rgb.shape)).clip(0, 255).astype(np.uint8)


def prepared(folder):
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [((97, 61), (32, 32)), ((16, 16), (64, 48)), ((20, 200), (20, 50)), ((200, 20), (50, 20)), ((13, 200), (64, 64)),
             ((95, 95), (96, 96)), ((129, 65), (64, 64)), ((8, 8), (3, 5)), ((200, 150), (32, 32))]
    for i, (source, target) in enumerate(sizes):
        name = f"{source[0]}x{source[1]}_{target[0]}x{target[1]}"
        picture = Image.fromarray(texture(*source, i))
        picture.save(folder / f"{name}.source.png")
        picture.resize(target, Image.Resampling.BILINEAR).save(folder / f"{name}.expected.png")


def object_masks(folder):
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:64, :80]
    dark = np.full((64, 80, 3), 220, np.uint8)
    dark[(x - 25) ** 2 + (y - 30) ** 2 < 150] = (30, 50, 70)
    noisy = (dark + np.random.default_rng(5).normal(0, 20, dark.shape)).clip(0, 255).astype(np.uint8)
    edge = np.full((48, 48, 3), 200, np.uint8)
    edge[:5, :9] = 20
    tie = np.zeros((20, 20, 3), np.uint8)  # two levels: every threshold between them is as good
    tie[:, 10:] = 200
    cases = {"dark": dark, "noisy": noisy, "edge": edge, "tie": tie, "flat": np.full((16, 16, 3), 77, np.uint8),
             "texture": texture(70, 50, 9), "single": np.pad(np.zeros((1, 1, 3), np.uint8), ((30, 33), (40, 23), (0, 0)), constant_values=255)}
    thresholds = {}
    for name, rgb in cases.items():
        gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        ours = ((9798 * rgb[..., 0].astype(int) + 19235 * rgb[..., 1].astype(int) + 3735 * rgb[..., 2].astype(int) + 16384) >> 15)
        assert np.abs(gray.astype(int) - ours).max() <= 1, name  # OpenCV's vector code may round otherwise
        Image.fromarray(rgb).save(folder / f"{name}.png")
        for kind in ("otsu_dark", "otsu_bright"):
            for size in (rgb.shape[1], 37):
                threshold, mask = glad.object_mask(rgb, kind, size)
                np.save(folder / f"{name}.{kind}.{size}.npy", mask.astype(np.float32))
            thresholds[name] = int(threshold)
    (folder / "thresholds.json").write_text(json.dumps(thresholds, indent=1) + "\n")


def to_8_bit(values):
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def formats(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rgb = texture(37, 23, 1)
    gray = rgb[..., 1]
    wide = np.random.default_rng(2).integers(0, 65536, (23, 37, 3)).astype(np.uint16)
    wide[0, :3] = [[0, 128, 129], [385, 386, 65535], [65406, 65407, 65408]]  # around the rounding
    alpha = np.dstack([rgb, np.arange(23 * 37).reshape(23, 37).astype(np.uint8)])
    color, smooth = Image.fromarray(rgb), Image.fromarray(rgb).resize((64, 40), Image.Resampling.BICUBIC)

    def pillow(name, picture, **options):
        """Expected is what Pillow reads back."""
        picture.save(folder / name, **options)
        with Image.open(folder / name) as read:
            # Alpha is dropped, where Pillow's own conversion drops it too.
            expect(name, np.asarray(ImageOps.exif_transpose(read).convert("RGB")))

    def expect(name, array):
        Image.fromarray(array).save(folder / f"{name}.expected.png")

    def opencv(name, array, expected):
        """16 bit, which Pillow cannot write in colour."""
        (folder / name).write_bytes(cv2.imencode(name[name.rindex("."):], array)[1].tobytes())
        expect(name, expected)

    pillow("rgb.png", color)
    pillow("gray.png", Image.fromarray(gray))
    pillow("bilevel.png", Image.fromarray(gray > 128))
    pillow("palette.png", color.quantize(16))
    pillow("rgba.png", Image.fromarray(alpha, "RGBA"))
    pillow("gray_alpha.png", Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha[..., 3])]))
    opencv("rgb16.png", wide[..., ::-1], to_8_bit(wide))
    opencv("gray16.png", wide[..., 0], to_8_bit(np.repeat(wide[..., :1], 3, 2)))
    opencv("rgba16.png", np.dstack([wide[..., ::-1], wide[..., :1]]), to_8_bit(wide))

    pillow("rgb.jpg", smooth, quality=85)  # 4:2:0
    pillow("rgb_444.jpg", smooth, quality=95, subsampling=0)
    pillow("progressive.jpeg", smooth, progressive=True)
    pillow("gray.jpg", smooth.convert("L"))
    pillow("cmyk.jpg", smooth.convert("CMYK"), quality=95)

    pillow("rgb.tif", color)
    pillow("lzw.tiff", color, compression="tiff_lzw")
    pillow("deflate.tif", color, compression="tiff_adobe_deflate")
    pillow("gray.tif", Image.fromarray(gray))
    pillow("rgba.tif", Image.fromarray(alpha, "RGBA"))
    pillow("palette.tif", color.quantize(16))
    ramp = np.random.default_rng(4).integers(0, 256, (23, 37, 4)).astype(np.uint8)
    pillow("cmyk.tif", Image.fromarray(ramp, "CMYK"))
    opencv("rgb16.tif", wide[..., ::-1], to_8_bit(wide))
    opencv("gray16.tif", wide[..., 0], to_8_bit(np.repeat(wide[..., :1], 3, 2)))

    pillow("rgb.bmp", color)
    pillow("gray.bmp", Image.fromarray(gray))
    pillow("palette.bmp", color.quantize(16))

    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        pillow(f"orientation_{orientation}.jpg", smooth, exif=exif)
    exif = Image.Exif()
    exif[0x0112] = 6
    pillow("orientation_6.png", color, exif=exif)
    pillow("orientation_6.tif", color, tiffinfo={0x0112: 6})
