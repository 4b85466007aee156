"""Times a bundle's networks in PyTorch: as they are before training, which is as quick as after it.

    out/training/env/bin/python bench/reference/torch_gpu.py --bundle DIR --json FILE

The networks are built from the recipe in the bundle's provenance, so the bundle must be one of gladd-train's own
networks; others cannot be built, and the exit code is 3. FP16 by autocast, a part at a time, the median of --rounds
calls; the report is one that gpu_table.py reads.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
import yaml

from gladd_training import graphs
from gladd_training.networks.autoencoder import Autoencoder
from gladd_training.networks.features import Vit
from gladd_training.networks.unet import UNet

CANNOT_BUILD = 3  # exit code


def options():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bundle", required=True, type=Path, metavar="DIR", help="the model; one that gladd-train made from scratch")
    p.add_argument("--json", required=True, type=Path, metavar="FILE", help="the report")
    p.add_argument("--rounds", type=int, default=50, metavar="N", help="calls of each kind; default 50")
    p.add_argument("--device", default="cuda", help="default cuda")
    return p.parse_args()


def networks(manifest, device):
    recipe = manifest["provenance"]["recipe"]
    auto, denoiser, features, score = (recipe[part] for part in ("autoencoder", "denoiser", "features", "score"))
    if auto["path"] or denoiser["path"] or features["path"] or features["network"] != "vit":
        print("torch_gpu: expected a bundle whose networks gladd-train made itself, found given ones", file=sys.stderr)
        raise SystemExit(CANNOT_BUILD)
    latent, classes = manifest["latent"], len(manifest.get("classes") or [])
    autoencoder = Autoencoder(auto["channels"], latent["channels"], auto["blocks"])
    unet = UNet(latent["height"], latent["width"], latent["channels"], denoiser["channels"], denoiser["position_map"], classes)
    vit = Vit(features["width"], features["depth"], features["heads"], None)
    size = (latent["height"], latent["width"])
    made = {
        "encode": graphs.Encoder(autoencoder),
        "predict noise": unet,
        "decode": graphs.Decoder(autoencoder),
        "gate": graphs.Gate(vit, size, score["gate_scale"]),
        "score": graphs.Score(vit, score["map_size"], score["weights"], score["pixel"], score["pixel_by_maximum"], score["sigma"], score["both"], score["resolution"]),
    }
    return {name: module.to(device).eval() for name, module in made.items()}, classes


def main():
    o = options()
    manifest = yaml.safe_load((o.bundle / "bundle.yaml").read_text())
    made, classes = networks(manifest, o.device)
    latent, image = manifest["latent"], manifest["image"]
    z = torch.randn(1, latent["channels"], latent["height"], latent["width"], device=o.device)
    x = torch.rand(1, 3, image["height"], image["width"], device=o.device) * 2 - 1
    t = torch.full((1,), 500.0, device=o.device)
    label = [torch.zeros(1, dtype=torch.long, device=o.device)] if classes else []

    def compare():
        pictures = made["decode"](torch.cat([z, z]))
        return made["gate"](pictures[:1], pictures[1:])

    calls = {
        "encode": lambda: made["encode"](x),
        "predict noise": lambda: made["predict noise"](z, t, *label),
        "compare": compare,
        "reconstruct": lambda: made["decode"](z),
        "score": lambda: made["score"](x, x),
    }
    wait = torch.cuda.synchronize if o.device == "cuda" else lambda: None
    stages = []
    with torch.inference_mode(), torch.autocast(o.device, torch.float16 if o.device == "cuda" else torch.bfloat16):
        for name, call in calls.items():
            for _ in range(min(10, o.rounds)):
                call()
            wait()
            times = []
            for _ in range(o.rounds):
                began = time.perf_counter()
                call()
                wait()
                times.append(1000 * (time.perf_counter() - began))
            stages.append({"name": name, "ms": statistics.median(times)})
    where = torch.cuda.get_device_name() if o.device == "cuda" else o.device
    report = {"calls": stages, "machine": {"library": f"PyTorch {torch.__version__} on {where}, not compiled", "precision": "fp16 by autocast"}}
    o.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
