"""The micro bundle: a whole model of a few kilobytes, and what the reference computes with it."""

import copy
import hashlib
import json

import numpy as np
from PIL import Image

import graphs
import glad

WIDTH, HEIGHT, CHANNELS, MAP = 160, 96, 3, 40

MANIFEST = {
    "schema": "gladd.bundle/v1",
    "name": "micro",
    "version": "1.0.0",
    "image": {"width": WIDTH, "height": HEIGHT},
    "latent": {"channels": CHANNELS, "width": WIDTH // 8, "height": HEIGHT // 8, "encode": "sample"},
    "schedule": {"train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
                 "steps_offset": 1, "set_alpha_to_one": False},
    "denoise": {"step": 600, "inference_steps": 7, "min_step": 200, "threshold": 0.05, "gate_top_k": 5},
    "score": {"top_k": 60, "object_mask": "none", "map_size": MAP},
    "classes": ["left", "right"],
}

# Each case changes the manifest; "picture" and "class" say what is inspected.
CASES = [
    ("plain", {}, "disk", "left"),
    ("other_class", {}, "disk", "right"),
    ("switch_at_once", {"denoise": {"threshold": 0.0001}}, "disk", "left"),
    ("no_crossing", {"denoise": {"threshold": 5}}, "disk", "left"),
    ("adaptive_step_off", {"denoise": {"threshold": 0}}, "disk", "left"),
    ("no_switch", {"denoise": {"threshold": 5, "min_step": 0}}, "stripes", "left"),
    ("crossing_below_min_step", {"denoise": {"threshold": "crossing", "min_step": 500}}, "stripes", "left"),
    ("noise_step", {"denoise": {"noise_step": 599}}, "stripes", "right"),
    ("whole_schedule", {"denoise": {"step": 1000, "noise_step": 999, "inference_steps": 9}}, "disk", "left"),
    ("every_step", {"denoise": {"step": 30, "inference_steps": 30, "min_step": 10}}, "disk", "left"),
    ("no_offset", {"schedule": {"steps_offset": 0}}, "stripes", "left"),
    ("alpha_to_one", {"schedule": {"steps_offset": 0, "set_alpha_to_one": True}}, "stripes", "left"),
    ("other_schedule", {"schedule": {"train_timesteps": 700, "beta_start": 0.001, "beta_end": 0.02}}, "disk", "right"),
    ("mean", {"latent": {"encode": "mean"}}, "disk", "left"),
    ("otsu_dark", {"score": {"object_mask": "otsu_dark"}}, "disk", "left"),
    ("otsu_bright", {"score": {"object_mask": "otsu_bright"}}, "disk", "right"),
    ("all_of_the_map", {"score": {"top_k": MAP * MAP}, "denoise": {"gate_top_k": 240}}, "stripes", "left"),
]


def pictures():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rng = np.random.default_rng(3)
    disk = np.full((HEIGHT, WIDTH, 3), (210, 200, 185), np.float64)
    disk[(x - 40) ** 2 + (y - 23) ** 2 < 150] = (40, 60, 90)
    disk += rng.normal(0, 6, disk.shape)
    stripes = np.stack([128 + 90 * np.sin(x / 3 + y / 7), 128 + 90 * np.cos(x / 5), 128 + 60 * np.sin(y / 4)], -1)
    return {"disk": disk.clip(0, 255).astype(np.uint8), "stripes": stripes.clip(0, 255).astype(np.uint8)}


def merged(changes):
    manifest = copy.deepcopy(MANIFEST)
    for section, values in changes.items():
        manifest[section].update(values)
    return manifest


def bundle(folder):
    (folder / "golden").mkdir(parents=True, exist_ok=True)
    for name in ("images", "noise", "encode_noise"):
        (folder / name).mkdir(exist_ok=True)
    graphs.micro(folder, WIDTH, HEIGHT, CHANNELS, MAP)
    MANIFEST["graphs"] = {
        name: {"file": f"{name}.onnx", "sha256": hashlib.sha256((folder / f"{name}.onnx").read_bytes()).hexdigest()}
        for name in ("vae_encoder", "unet", "vae_decoder", "dino_gate", "dino_score")
    }
    # JSON is YAML.
    (folder / "bundle.yaml").write_text(json.dumps(MANIFEST, indent=2) + "\n")
    rng = np.random.default_rng(11)
    rgb = pictures()
    shape = (CHANNELS, HEIGHT // 8, WIDTH // 8)
    noise = {name: rng.standard_normal(shape, np.float32) for name in rgb}
    encode_noise = {name: rng.standard_normal(shape, np.float32) for name in rgb}
    for name in rgb:
        Image.fromarray(rgb[name]).save(folder / f"images/{name}.png")
        np.save(folder / f"noise/{name}.npy", noise[name])
        np.save(folder / f"encode_noise/{name}.npy", encode_noise[name])

    cases = []
    for name, changes, picture, class_name in CASES:
        changes = copy.deepcopy(changes)
        run = lambda: glad.inspect(glad.Model(folder, merged(changes)), rgb[picture], noise[picture], encode_noise[picture],
                                        MANIFEST["classes"].index(class_name))
        if changes.get("denoise", {}).get("threshold") == "crossing":
            # A threshold that is first crossed below min_step, where the crossing still decides.
            changes["denoise"].update(threshold=5, min_step=0)
            scores = [gate["score"] for gate in run()["gate"]]
            at = next(i for i in range(1, len(scores)) if scores[i] > max(scores[:i]) + 1e-3)
            changes["denoise"].update(threshold=round((scores[at] + max(scores[:at])) / 2, 5), min_step=0)
            below = run()
            changes["denoise"]["min_step"] = below["switch_timestep"] + 1
        result = run()
        print(f"{name:26} {result['switch_reason']:10} {result['switch_timestep']:4} score {result['score']:.4f}",
              "gate", " ".join(f"{gate['score']:.4f}" for gate in result["gate"]))
        margin = min((abs(gate["score"] - merged(changes)["denoise"]["threshold"]) for gate in result["gate"]), default=1)
        assert margin > 1e-4, f"{name}: the switch hangs on rounding"
        np.save(folder / f"golden/{name}.anomaly_map.npy", result.pop("anomaly_map"))
        reconstruction = result.pop("reconstruction")
        result["reconstruction_range"] = [float(reconstruction.min()), float(reconstruction.max())]
        result.pop("latent_final")
        cases.append({"name": name, "changes": changes, "picture": picture, "class": class_name, **result})
    golden = {"model_digest": model_digest(MANIFEST), "cases": cases}
    (folder / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


def model_digest(m):
    lines = ["gladd.model/v1", *sorted(graph["sha256"] for graph in m["graphs"].values())]
    lines.append("image {width} {height}".format(**m["image"]))
    lines.append("latent {channels} {width} {height} {encode}".format(**m["latent"]))
    lines.append("schedule {train_timesteps} {beta_schedule} {beta_start} {beta_end} {steps_offset} ".format(**m["schedule"])
                 + str(m["schedule"]["set_alpha_to_one"]).lower())
    return hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()


def schedule(path):
    """alphaBar at some timesteps of the usual schedule, in float64."""
    s = MANIFEST["schedule"]
    betas = np.linspace(s["beta_start"] ** 0.5, s["beta_end"] ** 0.5, s["train_timesteps"]) ** 2
    alpha_bar = np.cumprod(1 - betas)
    path.write_text(json.dumps({str(t): alpha_bar[t] for t in (0, 1, 20, 249, 500, 749, 998, 999)}, indent=1) + "\n")
