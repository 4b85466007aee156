"""From trained networks to a bundle: ONNX graphs, their digests, bundle.yaml.

Each graph is compared with its network before the bundle is written: a bundle
that computes something else is not left behind.
"""

import hashlib
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper

from . import TrainingError
from .schedule import BETA_END, BETA_START, TRAIN_TIMESTEPS

OPSET = 17
TOLERANCE = 1e-4  # relative to the output's size where that is above 1
LARGEST = 1_900_000_000  # bytes of weights within a graph's own file; protobuf ends at 2 GB
NAMES = {
    "vae_encoder": (["image"], ["latent_mean", "latent_std"]),
    "unet": (["sample", "timestep"], ["eps"]),
    "vae_decoder": (["latent"], ["image"]),
    "dino_gate": (["test_image", "reconstructed_image"], ["anomaly_map"]),
    "dino_score": (["test_image", "reconstructed_image"], ["anomaly_map"]),
}


def round_to_half(module):
    """Rounds weights with two or more axes to what FP16 can hold, in place: what the bundle will store."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() >= 2:
                parameter.copy_(parameter.half().float())


def store_half(model):
    """Weights with two or more axes stored as FP16 behind a Cast; arithmetic, inputs and outputs stay FP32."""
    casts = []
    for i, initializer in enumerate(model.graph.initializer):
        if initializer.data_type != TensorProto.FLOAT or len(initializer.dims) < 2 or np.prod(initializer.dims) < 64:
            continue
        value = numpy_helper.to_array(initializer)
        half = value.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), value):
            # A constant that was folded from rounded weights need not be a half itself.
            continue
        name = initializer.name
        model.graph.initializer[i].CopyFrom(numpy_helper.from_array(half, name + "_half"))
        casts.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT, name=name + "_to_float"))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(casts + nodes)


def _size(model):
    """The bytes of a model's weights."""
    return sum(numpy_helper.to_array(i).nbytes if not i.raw_data else len(i.raw_data) for i in model.graph.initializer)


def export_graph(name, module, inputs, path, half=True, limit=LARGEST, batches=(1, 3)):
    """Writes one graph and returns the largest difference to the module, at these batches, and the names of the
    files beside it that hold its weights where those take more than `limit` bytes: one, or none.

    inputs(n): example inputs of a batch of n.
    """
    names, outputs = NAMES[name]
    if len(inputs(1)) > len(names):
        names = [*names, "class_index"]
    module = module.eval()
    if half:
        round_to_half(module)
    with torch.no_grad():
        expected = [module(*inputs(n)) for n in batches]
    expected = [each if isinstance(each, tuple) else (each,) for each in expected]
    outputs = outputs[: len(expected[0])]
    dynamic = {n: {0: "N"} for n in names + outputs}
    beside = []
    # A graph over 2 GB comes in hundreds of files.
    with tempfile.TemporaryDirectory(prefix=path.name + ".", dir=path.parent) as folder:
        raw = Path(folder) / "raw.onnx"
        with torch.no_grad(), warnings.catch_warnings():
            # Sizes that tracing takes as constants are constants in a bundle.
            for kind in (torch.jit.TracerWarning, UserWarning, DeprecationWarning):
                warnings.simplefilter("ignore", kind)
            torch.onnx.export(module, inputs(2), str(raw), input_names=names, output_names=outputs, dynamic_axes=dynamic, opset_version=OPSET, dynamo=False)
        model = onnx.load(raw)
    if half:
        store_half(model)
    if _size(model) > limit:
        beside = [f"{name}.weights"]
        onnx.save_model(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=beside[0], size_threshold=1024)
    else:
        onnx.save(model, path)
    del model
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for n, each in zip(batches, expected, strict=True):
        fed = {k: v.numpy() for k, v in zip(names, inputs(n))}
        for found, wanted in zip(session.run(None, fed), (output.numpy() for output in each), strict=True):
            if found.shape != wanted.shape:
                raise TrainingError(f"{name}: the exported graph gives {found.shape} at a batch of {n}, the network {wanted.shape}")
            worst = max(worst, float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max())))
    if not worst <= TOLERANCE:
        raise TrainingError(f"{name}: the exported graph differs from the network by {worst:.2g}, more than {TOLERANCE:g}")
    return worst, beside


def digest(path):
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def write_bundle(folder, modules, manifest, example_images, half=True, limit=LARGEST, batches=(1, 3)):
    """Writes a new bundle.

    modules: the five graphs' modules by name, taken out one by one; manifest: name, version, image, latent,
    denoise, score, classes and provenance as bundle.yaml has them; example_images:
    float [3,3,H,W], real pictures to compare the graphs on. The folder must not exist:
    a bundle never changes. Returns the largest difference of each graph.
    """
    folder = Path(folder)
    if folder.exists():
        raise TrainingError(f"{folder} exists. A bundle never changes: name another folder, or delete this one first.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    size, latent = manifest["image"], manifest["latent"]
    shape = (latent["channels"], latent["height"], latent["width"])
    latents = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    reversed_images = example_images.flip(0)
    names = manifest.get("classes", [])
    classes = lambda n: (torch.arange(n) % len(names),) if names else ()
    feeds = {
        "vae_encoder": lambda n: (example_images[:n],),
        "unet": lambda n: (latents[:n], torch.tensor([1.0, 451.0, 999.0])[:n], *classes(n)),
        "vae_decoder": lambda n: (latents[:n],),
        "dino_gate": lambda n: (example_images[:n], reversed_images[:n]),
        "dino_score": lambda n: (example_images[:n], reversed_images[:n]),
    }
    if example_images.shape != (3, 3, size["height"], size["width"]):
        raise TrainingError(f"expected three example pictures of {size['width']}x{size['height']}, found {tuple(example_images.shape)}")
    temporary = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=folder.parent))
    try:
        differences, graphs = {}, {}
        for name in list(modules):
            module = modules.pop(name)  # a large network's memory is needed for the next one
            path = temporary / f"{name}.onnx"
            differences[name], beside = export_graph(name, module, feeds[name], path, half, limit, batches)
            graphs[name] = {"file": path.name, "sha256": digest(path)}
            if beside:
                graphs[name]["external_data"] = [{"file": file, "sha256": digest(temporary / file)} for file in beside]
        provenance = {**manifest.get("provenance", {}), "largest_difference_to_torch": {k: float(f"{v:.2g}") for k, v in differences.items()}}
        content = {
            "schema": "gladd.bundle/v1",
            "name": manifest["name"],
            "version": str(manifest["version"]),
            "image": size,
            "latent": latent,
            "schedule": {
                "train_timesteps": TRAIN_TIMESTEPS, "beta_schedule": "scaled_linear", "beta_start": BETA_START, "beta_end": BETA_END,
                "steps_offset": 1, "set_alpha_to_one": False,
            },
            "denoise": manifest["denoise"],
            "score": manifest["score"],
            "classes": names,
            "graphs": graphs,
            "provenance": provenance,
        }  # fmt: skip
        (temporary / "bundle.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        temporary.chmod(0o755)
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return differences
