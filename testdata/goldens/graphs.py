"""Small ONNX graphs: a whole model of a few kilobytes, and graphs that break the contract."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR = 17, 8


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def save(path, nodes, inputs, outputs, constants):
    graph = helper.make_graph(nodes, path.stem, inputs, outputs,
                              [numpy_helper.from_array(array, name) for name, array in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="gladd")
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def floats(*values):
    return np.array(values, np.float32)


def patch_features(prefix, source, patch):
    """Unit feature vectors [N,P,c] of non-overlapping patches."""
    return [
        node("Conv", f"{source} features_{patch}", f"{prefix}_map", kernel_shape=[patch, patch], strides=[patch, patch]),
        node("Reshape", f"{prefix}_map flat", f"{prefix}_flat"),
        node("ReduceL2", f"{prefix}_flat", f"{prefix}_norm", axes=[1], keepdims=1),
        node("Add", f"{prefix}_norm tiny", f"{prefix}_norm_safe"),
        node("Div", f"{prefix}_flat {prefix}_norm_safe", f"{prefix}_unit"),
        node("Transpose", f"{prefix}_unit", f"{prefix}_rows", perm=[0, 2, 1]),
    ]


def micro(folder, width, height, channels, map_size, seed=7):
    """The five graphs: f8 autoencoder, two classes, a posterior, distances in both directions."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape, scale=1.0: (rng.standard_normal(shape) * scale).astype(np.float32)
    h, w = height // 8, width // 8
    image, latent = ["N", 3, height, width], ["N", channels, h, w]

    save(folder / "vae_encoder.onnx", [
        node("AveragePool", "image", "pooled", kernel_shape=[8, 8], strides=[8, 8]),
        node("Conv", "pooled mean_w", "latent_mean", kernel_shape=[1, 1]),
        node("Conv", "pooled std_w", "logit", kernel_shape=[1, 1]),
        node("Sigmoid", "logit", "sigmoid"),
        node("Mul", "sigmoid third", "latent_std"),
    ], [value("image", image)], [value("latent_mean", latent), value("latent_std", latent)],
        {"mean_w": normal(channels, 3, 1, 1), "std_w": normal(channels, 3, 1, 1), "third": floats(0.3)})

    save(folder / "unet.onnx", [
        node("Conv", "sample mix", "mixed", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Reshape", "timestep column", "time"),
        node("Mul", "time thousandth", "level"),
        node("Gather", "embeddings class_index", "embedded"),
        node("Add", "mixed embedded", "shifted"),
        node("Add", "shifted level", "biased"),
        node("Tanh", "biased", "bounded"),
        node("Add", "bounded sample", "sum"),
        node("Mul", "sum most", "eps"),
    ], [value("sample", latent), value("timestep", ["N"]), value("class_index", ["N"], TensorProto.INT64)], [value("eps", latent)],
        {"mix": normal(channels, channels, 3, 3, scale=0.3), "column": np.array([-1, 1, 1, 1], np.int64), "thousandth": floats(1e-3),
         "embeddings": normal(2, channels, 1, 1, scale=0.5), "most": floats(0.8)})

    # Decodes go beyond [-1,1].
    save(folder / "vae_decoder.onnx", [
        node("Conv", "latent back", "small", kernel_shape=[1, 1]),
        node("Resize", "small  factors", "large", mode="linear"),
        node("Mul", "large gain", "image"),
    ], [value("latent", latent)], [value("image", image)],
        {"back": normal(3, channels, 1, 1), "factors": floats(1, 1, 8, 8), "gain": floats(1.6)})
    # An omitted optional input is an empty name, which split() drops.
    fix_resize(folder / "vae_decoder.onnx")

    pictures = [value("test_image", image), value("reconstructed_image", image)]
    features = lambda patch: normal(12, 3, patch, patch, scale=1 / patch)
    nearest = lambda a, b, out: [
        node("Transpose", f"{b}_rows", f"{out}_columns", perm=[0, 2, 1]),
        node("MatMul", f"{a}_rows {out}_columns", f"{out}_cosine"),
        node("ReduceMax", f"{out}_cosine", f"{out}_best", axes=[2], keepdims=0),
        node("Sub", f"one {out}_best", f"{out}_distance"),
    ]
    save(folder / "dino_gate.onnx",
         patch_features("t", "test_image", 8) + patch_features("r", "reconstructed_image", 8) + nearest("t", "r", "g") +
         [node("Reshape", "g_distance grid", "anomaly_map")],
         # Symbolic output dimensions, as exporters leave them.
         pictures, [value("anomaly_map", ["N", "a", "b", "c"])],
         {"features_8": features(8), "flat": np.array([0, 0, -1], np.int64), "tiny": floats(1e-6), "one": floats(1),
          "grid": np.array([-1, 1, h, w], np.int64)})

    save(folder / "dino_score.onnx",
         patch_features("t", "test_image", 4) + patch_features("r", "reconstructed_image", 4) + nearest("t", "r", "f") + nearest("r", "t", "b") + [
             node("Add", "f_distance b_distance", "both"),
             node("Reshape", "both grid", "coarse"),
             node("Resize", "coarse sizes", "anomaly_map", mode="linear"),
         ], pictures, [value("anomaly_map", ["N", 1, "b", "c"])],
         {"features_4": features(4), "flat": np.array([0, 0, -1], np.int64), "tiny": floats(1e-6), "one": floats(1),
          "grid": np.array([-1, 1, height // 4, width // 4], np.int64),
          # A little more than the ratio: the target's size is rounded down.
          "sizes": floats(1, 1, map_size / (height // 4) + 1e-4, map_size / (width // 4) + 1e-4)})
    fix_resize(folder / "dino_score.onnx")


def fix_resize(path):
    """Puts the empty roi between Resize's input and its scales."""
    model = onnx.load(path)
    for n in model.graph.node:
        if n.op_type == "Resize" and len(n.input) == 2:
            source, scales = n.input
            del n.input[:]
            n.input.extend([source, "", scales])
    onnx.save(model, path)


def broken(folder):
    """Stand-ins for the micro model's vae_decoder (3 channels, 12x20 to 96x160) and unet, each wrong in one way."""
    latent, image = ["N", 3, 12, 20], ["N", 3, 96, 160]
    back, factors = np.ones((3, 3, 1, 1), np.float32), floats(1, 1, 8, 8)

    def decoder(name, inputs=None, outputs=None, latent_name="latent", image_name="image", factors=factors, extra=()):
        path = folder / f"{name}.onnx"
        save(path, [
            node("Conv", f"{latent_name} back", "small", kernel_shape=[1, 1]),
            node("Resize", "small factors", image_name, mode="linear"),
            *extra,
        ], inputs or [value(latent_name, latent)], outputs or [value(image_name, image)], {"back": back, "factors": factors})
        fix_resize(path)

    decoder("output_misnamed", image_name="picture")
    decoder("input_misnamed", latent_name="z")
    decoder("input_extra", inputs=[value("latent", latent), value("guidance", ["N"])])
    decoder("output_shape", outputs=[value("image", ["N", 3, 160, 96])], factors=floats(1, 1, 160 / 12 + 1e-4, 96 / 20 + 1e-4))
    decoder("batch_fixed", inputs=[value("latent", [1, 3, 12, 20])], outputs=[value("image", [1, 3, 96, 160])])

    # Fit the contract's metadata, and break it only when they run: what a slice
    # leaves depends on the input's values, which shape inference cannot know.
    for name, axis, end in (("runs_to_another_shape", 2, 90), ("batch_folded", 0, 1)):
        path = folder / f"{name}.onnx"
        save(path, [
            node("Conv", "latent back", "small", kernel_shape=[1, 1]),
            node("Resize", "small factors", "large", mode="linear"),
            node("ReduceMax", "latent", "largest", keepdims=0),
            node("Mul", "largest zero", "nothing"),
            node("Add", "nothing end", "end_float"),
            node("Cast", "end_float", "end_whole", to=TensorProto.INT64),
            node("Slice", "large begin end_whole axis", "image"),
        ], [value("latent", latent)], [value("image", ["M", 3, "y", "x"])],
            {"back": back, "factors": factors, "zero": floats(0), "end": floats(end),
             "begin": np.array([0], np.int64), "axis": np.array([axis], np.int64)})
        fix_resize(path)

    save(folder / "output_double.onnx", [
        node("Conv", "latent back", "small", kernel_shape=[1, 1]),
        node("Resize", "small factors", "large", mode="linear"),
        node("Cast", "large", "image", to=TensorProto.DOUBLE),
    ], [value("latent", latent)], [value("image", image, TensorProto.DOUBLE)], {"back": back, "factors": factors})
    fix_resize(folder / "output_double.onnx")

    # Loads, and fails when it runs: the Reshape cannot hold.
    save(folder / "fails_at_run.onnx", [
        node("ReduceMax", "latent", "largest", keepdims=0),
        node("Mul", "largest zero", "nothing"),
        node("Add", "nothing shape", "shape_float"),
        node("Cast", "shape_float", "shape_whole", to=TensorProto.INT64),
        node("Reshape", "latent shape_whole", "image"),
    ], [value("latent", latent)], [value("image", ["N", 3, "y", "x"])], {"zero": floats(0), "shape": floats(-1, 3, 7, 11)})

    # eps is NaN, or infinite, below timestep 300.
    for name, poison in (("unet_nan", np.nan), ("unet_inf", np.inf)):
        save(folder / f"{name}.onnx", [
            node("Reshape", "timestep column", "time"),
            node("Less", "time limit", "late"),
            node("Where", "late poison sample", "poisoned"),
            node("Cast", "class_index", "class_float", to=TensorProto.FLOAT),
            node("Reshape", "class_float column", "class_column"),
            node("Mul", "class_column zero", "nothing"),
            node("Add", "poisoned nothing", "eps"),
        ], [value("sample", latent), value("timestep", ["N"]), value("class_index", ["N"], TensorProto.INT64)], [value("eps", latent)],
            {"column": np.array([-1, 1, 1, 1], np.int64), "limit": floats(300), "poison": floats(poison), "zero": floats(0)})

    # Weights in a file beside the graph.
    decoder("external", image_name="image")
    model = onnx.load(folder / "external.onnx")
    (folder / "external.weights").unlink(missing_ok=True)  # onnx would append to it
    onnx.save(model, folder / "external.onnx", save_as_external_data=True, location="external.weights", size_threshold=60)
