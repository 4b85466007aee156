"""GLAD as the official code has it, in NumPy and float32, for one picture at a time, on a bundle's graphs.

The test data comes from it (testdata/goldens), and gladd's speed is held against
it (compare.py): it is what one would run without gladd.
"""

import numpy as np
import onnxruntime


# When idle threads wait in a loop: never, always (ONNX Runtime's default), until the session's call returns.
SPINNING = {
    "never": {"session.intra_op.allow_spinning": "0"},
    "on": {"session.intra_op.allow_spinning": "1"},
    "in-calls": {"session.intra_op.allow_spinning": "1", "session.force_spinning_stop": "1"},
}


class Model:
    """A bundle's graphs. threads of each call; 0: all."""

    def __init__(self, folder, manifest, threads=0, spinning="on"):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        for key, value in SPINNING[spinning].items():
            options.add_session_config_entry(key, value)
        self.m = manifest
        self.session = {
            name: onnxruntime.InferenceSession(str(folder / graph["file"]), options, providers=["CPUExecutionProvider"])
            for name, graph in manifest["graphs"].items()
        }

    def run(self, name, **inputs):
        return self.session[name].run(None, inputs)


def alphas_cumprod(schedule):
    betas = np.linspace(schedule["beta_start"] ** 0.5, schedule["beta_end"] ** 0.5, schedule["train_timesteps"]) ** 2
    return np.cumprod(1 - betas).astype(np.float32)


def mean_of_highest(values, k):
    return float(np.sort(values.ravel().astype(np.float64))[-k:].mean())


def object_mask(rgb, kind, size):
    import cv2
    from scipy import ndimage

    r, g, b = (rgb[..., i].astype(np.int64) for i in range(3))
    gray = ((9798 * r + 19235 * g + 3735 * b + 16384) >> 15).astype(np.uint8)
    threshold, _ = cv2.threshold(gray, 0, 255, cv2.THRESH_OTSU)
    foreground = gray <= threshold if kind == "otsu_dark" else gray > threshold
    blurred = ndimage.gaussian_filter(foreground.astype(np.float64), 6, radius=24, mode="reflect")
    blurred = ndimage.gaussian_filter((blurred > 0).astype(np.float64), 6, radius=24, mode="reflect")
    return threshold, aligned(blurred, size)


def aligned(plane, size):
    """Bilinear with corners aligned, by SciPy's linear interpolation."""
    from scipy import ndimage

    rows = np.linspace(0, plane.shape[0] - 1, size)
    columns = np.linspace(0, plane.shape[1] - 1, size)
    grid = np.meshgrid(rows, columns, indexing="ij")
    return ndimage.map_coordinates(plane, grid, order=1, mode="nearest")


def inspect(model, rgb, noise, encode_noise=None, class_index=None):
    """rgb: uint8 [H,W,3] at the bundle's size. Returns a dict of results."""
    m, d = model.m, model.m["denoise"]
    abar = alphas_cumprod(m["schedule"])
    image = (rgb.astype(np.float32) / np.float32(127.5) - 1).transpose(2, 0, 1)[None]
    encoded = model.run("vae_encoder", image=image)
    z = encoded[0]
    if m["latent"]["encode"] == "sample":
        z = encoded[0] + encoded[1] * encode_noise[None]
    n = noise[None]

    ratio = d["step"] // d["inference_steps"]
    timesteps = [ratio * i + m["schedule"]["steps_offset"] for i in reversed(range(d["inference_steps"]))]
    start = abar[d.get("noise_step", d["step"])]
    x = start**0.5 * z + (1 - start) ** 0.5 * n
    gate, switch, reason = [], 0, "none"
    for t in timesteps:
        inputs = {"sample": x, "timestep": np.array([t], np.float32)}
        if class_index is not None:
            inputs["class_index"] = np.array([class_index], np.int64)
        (eps,) = model.run("unet", **inputs)
        a = abar[t]
        x0 = generated = (x - (1 - a) ** 0.5 * eps) / a**0.5
        if reason == "none" and d["threshold"] > 0:
            tested = (a**0.5 * z + (1 - a) ** 0.5 * n - (1 - a) ** 0.5 * eps) / a**0.5
            (test_image,) = model.run("vae_decoder", latent=tested)
            (recon_image,) = model.run("vae_decoder", latent=generated)
            (gate_map,) = model.run("dino_gate", test_image=test_image, reconstructed_image=recon_image)
            score = mean_of_highest(gate_map, d["gate_top_k"])
            gate.append({"timestep": t, "score": score})
            if score > d["threshold"]:
                switch, reason = t, "threshold"
                weight = 1 / (1 + np.exp(-gate_map))
                x0 = weight * generated + (1 - weight) * tested
            elif t < d["min_step"]:
                switch, reason = t, "min_step"
                x0 = tested
        previous = t - ratio
        before = abar[previous] if previous >= 0 else (np.float32(1) if m["schedule"]["set_alpha_to_one"] else abar[0])
        x = before**0.5 * x0 + (1 - before) ** 0.5 * eps

    (reconstruction,) = model.run("vae_decoder", latent=x)
    (anomaly_map,) = model.run("dino_score", test_image=image, reconstructed_image=reconstruction)
    anomaly_map = anomaly_map[0, 0].astype(np.float64)
    if m["score"]["object_mask"] != "none":
        anomaly_map = anomaly_map * object_mask(rgb, m["score"]["object_mask"], m["score"]["map_size"])[1]
    return {
        "timesteps": timesteps,
        "gate": gate,
        "switch_timestep": switch,
        "switch_reason": reason,
        "score": mean_of_highest(anomaly_map, m["score"]["top_k"]),
        "anomaly_map": anomaly_map.astype(np.float32),
        "reconstruction": reconstruction[0],
        "latent_final": x[0],
    }
