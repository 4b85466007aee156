"""The whole road: from a folder of good parts and a recipe to a bundle."""

import copy
import dataclasses
import hashlib
import importlib.metadata
from pathlib import Path

import numpy as np
import torch

from . import TrainingError, glad, graphs, pictures, stages
from .anomalies import synthesise
from .export import digest, round_to_half, write_bundle
from .loop import Options, OtherSettings, differences, finished, fit, generators, settings, trained_already, write_atomically
from .networks.autoencoder import Autoencoder
from .networks.features import Teacher, Vit, fold_norms, installed_weights
from .networks.given import GivenAutoencoder, GivenDino, GivenUNet, embed_prompts, read_embeddings
from .networks.unet import UNet
from .recipe import learning_rate
from .textures import Textures, scene

LATENT_CHANNELS = 4
SOFTWARE = ("gladd-training", "torch", "onnx", "onnxruntime", "timm", "diffusers", "numpy", "pillow")


def save_array(path, array):
    def write(temporary):
        with open(temporary, "wb") as file:
            np.save(file, array)

    write_atomically(path, write)


def digest_of(path):
    """SHA-256 of a file, or of the names and contents of all files below a folder."""
    path = Path(path)
    if path.is_file():
        return digest(path)
    if not path.is_dir():
        raise TrainingError(f"{path}: expected a file or a folder, found none")
    each = [f"{file.relative_to(path)} {digest(file)}" for file in sorted(path.rglob("*")) if file.is_file()]
    return hashlib.sha256("\n".join(each).encode()).hexdigest()


def spread(count, of):
    """Indices of `count` of `of` things, evenly; all of them, again and again, where count is more."""
    if count >= of:
        return np.arange(count) % of
    return np.linspace(0, of - 1, count).astype(int)


class Road:
    """Each network is trained on demand, and once: what was finished is read from its checkpoint."""

    def __init__(self, recipe, good_folder, run):
        self.recipe, self.run = recipe, run
        self.given = self._given()
        size = (recipe.image.width, recipe.image.height)
        folders = [Path(good_folder) / name for name in recipe.classes] or [good_folder]
        found = [pictures.read_all(folder, *size) for folder in folders]
        self.good = np.concatenate(found)
        # Of each picture, the index of its class; None where there are no classes.
        self.labels = np.repeat(np.arange(len(found)), [len(each) for each in found]) if recipe.classes else None
        for folder, each in zip(folders, found):
            if len(each) < 8:
                raise TrainingError(f"{folder}: {len(each)} pictures; expected some hundred good parts, and at least 8")
        self.digest = hashlib.sha256(self.good.tobytes()).hexdigest()
        self._of = spread(recipe.anomalies.count, len(self.good))
        self._damaged = self._autoencoder = self._latents = self._unet = self._features = None
        self._check_checkpoints()

    def _given(self):
        """The digests of the files and folders that the recipe names, by its part and key: what cannot be read shall be known at once."""
        recipe, found = self.recipe, {}
        for part, key in (("anomalies", "textures"), ("autoencoder", "path"), ("denoiser", "path"), ("denoiser", "embeddings"), ("features", "path")):
            if path := getattr(getattr(recipe, part), key):
                found.setdefault(part, {})[key] = digest_of(path)
        if recipe.features.path:
            GivenDino.read(recipe.features.path)
        elif recipe.features.method == "distill" or recipe.features.network == "teacher":
            weights = recipe.features.teacher or installed_weights()
            if recipe.features.teacher:
                found.setdefault("features", {})["teacher"] = digest_of(weights)
        if recipe.denoiser.path:
            if recipe.denoiser.embeddings:
                read_embeddings(recipe.denoiser.embeddings)
            else:
                folder = Path(recipe.denoiser.path).parent
                found["denoiser"]["prompts"] = [digest_of(folder / "text_encoder"), digest_of(folder / "tokenizer")]
        return found

    def _stages(self):
        """What each stage's checkpoint depends on: its options and its fingerprint, by its name."""
        recipe = self.recipe
        for name, parts in (("autoencoder", ["autoencoder"]), ("denoiser", ["autoencoder", "denoiser"]), ("features", ["features"])):
            yield name, self.options(getattr(recipe, name)), self.fingerprint(*parts)
        tuning = self.fingerprint("autoencoder", "denoiser", "features", "finetune")
        tuning["reconstructed"] = [recipe.denoise.step, recipe.denoise.inference_steps] if recipe.finetune.contrast else []
        yield "finetune", self.options(recipe.finetune), tuning

    def _check_checkpoints(self):
        """All that was trained with other settings is named at once, before anything is trained."""
        wrong = []
        for name, options, fingerprint in self._stages():
            then = trained_already(self.run, name)
            if then is not None and (lines := differences(settings(options, self.run, fingerprint), then)):
                wrong.append((self.run.folder / name, lines))
        if wrong:
            raise OtherSettings(wrong)

    def unfinished(self):
        """The names of the stages that are not trained to their end."""
        recipe = self.recipe
        needed = {"autoencoder": recipe.autoencoder.steps, "denoiser": recipe.denoiser.steps, "finetune": recipe.finetune.steps}
        if not recipe.features.path and recipe.features.network != "teacher":
            needed["features"] = recipe.features.steps
        return [name for name, steps in needed.items() if steps and not finished(self.run, name)]

    def done(self):
        """The names of the stages that are trained to their end."""
        return [name for name, _, _ in self._stages() if finished(self.run, name)]

    def _fit(self, stage, name):
        options, fingerprint = next((o, f) for n, o, f in self._stages() if n == name)
        return fit(stage, name, options, self.run, fingerprint)

    def fingerprint(self, *parts):
        """What a network depends on: the pictures, and what the recipe's parts that lead to it have of their own."""
        found = {"pictures": self.digest, "classes": self.recipe.classes}
        for part in ("image", "anomalies", *parts):
            mine, plain = (dataclasses.asdict(v) for v in (getattr(self.recipe, part), type(getattr(self.recipe, part))()))
            found[part] = {key: value for key, value in mine.items() if value != plain[key]}
            if part in self.given:
                found[part]["files"] = self.given[part]
        return found

    @staticmethod
    def _key(*parts):
        """A name for what was made from these."""
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def options(self, stage):
        return Options(steps=stage.steps, lr=learning_rate(stage), batch=stage.batch, ema=getattr(stage, "ema", 0.0))

    def damaged(self):
        """uint8 [count,H,W,3]: good parts with synthetic anomalies, made once for all stages."""
        return self._anomalies()[0]

    def masks(self):
        """bool [count,H,W]: where the anomalies of damaged() are."""
        return self._anomalies()[1]

    def _anomalies(self):
        if self._damaged is None:
            settings = self.recipe.anomalies
            key = self._key(self.fingerprint(), self.run.seed)
            paths = [self.run.folder / f"{name}-{key}.npy" for name in ("damaged", "masks")]
            if not all(p.exists() for p in paths):
                rng, textures = generators(self.run.seed, "anomalies", 0), Textures(settings.textures or None)
                picks = glad.progress(self._of, "synthetic anomalies", self.run.progress)
                pairs = [synthesise(self.good[i], rng, textures, settings.where, settings.small) for i in picks]
                self.run.folder.mkdir(parents=True, exist_ok=True)
                for path, values in zip(paths, zip(*pairs)):
                    save_array(path, np.stack(values))
                made = np.stack([pair[0] for pair in pairs[:6]])
                pictures.sheet([self.good[self._of[:6]], made]).save(self.run.folder / "anomalies.png")
            self._damaged = tuple(np.load(p) for p in paths)
        return self._damaged

    def autoencoder(self):
        if self._autoencoder is None:
            settings, options = self.recipe.autoencoder, self.options(self.recipe.autoencoder)
            generators(self.run.seed, "autoencoder/weights", 0)
            module = GivenAutoencoder(settings.path) if settings.path else Autoencoder(settings.channels, LATENT_CHANNELS, settings.blocks)
            module = module.to(self.run.device)
            if options.steps:
                stage = stages.AutoencoderStage(module, self.good, self.damaged(), options, self.run.device, settings.crop, settings.kl)
                module = self._fit(stage, "autoencoder")
            self._autoencoder = module.eval().requires_grad_(False)
            if not settings.path:
                stages.scale_latents(module, self.good[:: max(1, len(self.good) // 200)], self.run.device)
        return self._autoencoder

    def latent_shape(self):
        """(channels, height, width) of a latent."""
        return tuple(stages.encode_all(self.autoencoder(), self.good[:1], self.run.device).shape[1:])

    def latents(self):
        """Latents of the good parts, and of those with anomalies."""
        if self._latents is None:
            path = self.run.folder / f"latents-{self._key(self.fingerprint('autoencoder'), self.run.seed)}.npy"
            if not path.exists():
                every = np.concatenate([self.good, self.damaged()])
                save_array(path, stages.encode_all(self.autoencoder(), every, self.run.device, self.run.progress).numpy())
            self._latents = torch.from_numpy(np.load(path)).split([len(self.good), len(self._of)])
        return self._latents

    def unet(self):
        if self._unet is None:
            settings, options = self.recipe.denoiser, self.options(self.recipe.denoiser)
            channels, *size = self.latent_shape()
            generators(self.run.seed, "denoiser/weights", 0)
            if settings.path:
                module = GivenUNet(settings.path, *self._embeddings(), settings.guidance)
            else:
                module = UNet(*size, channels, settings.channels, settings.position_map, len(self.recipe.classes))
            module = module.to(self.run.device)
            if options.steps:
                stage = stages.DenoiserStage(module, self.autoencoder(), *self.latents(), self._of, options, self.run.device, self.recipe.denoise.step,
                                             settings.normal_share, settings.max_timestep, self.labels, settings.orientation)  # fmt: skip
                module = self._fit(stage, "denoiser")
            self._unet = module.eval().requires_grad_(False)
        return self._unet

    def _embeddings(self):
        """(prompts, negative) for a given UNet."""
        settings = self.recipe.denoiser
        if settings.embeddings:
            prompts, negative = read_embeddings(settings.embeddings)
        else:
            embedded = embed_prompts(Path(settings.path).parent, [*settings.prompts, ""])
            prompts, negative = embedded[:-1], embedded[-1]
        if len(prompts) != max(1, len(self.recipe.classes)):
            raise TrainingError(f"{settings.embeddings}: expected {max(1, len(self.recipe.classes))} prompts, one a class; found {len(prompts)}")
        return prompts, negative

    def untuned(self):
        """The feature network before the paper's fine-tuning."""
        settings, options = self.recipe.features, self.options(self.recipe.features)
        if settings.path:
            whole, side = self.good.shape[1:3], self.recipe.score.resolution
            sizes = {tuple(whole), (side, side) if side else tuple(whole)}
            return GivenDino(settings.path, sorted(sizes)).to(self.run.device).eval().requires_grad_(False)
        if settings.network == "teacher":
            return self._teacher()
        generators(self.run.seed, "features/weights", 0)
        seen = np.concatenate([self.good, self.damaged()])
        if settings.method == "dino":
            module = Vit(settings.width, settings.depth, settings.heads, None).to(self.run.device)
            stage = stages.DinoStage(module, seen, options, self.run.device, settings.crop, settings.own)
            return self._fit(stage, "features").student()
        teacher = self._teacher()
        fine, coarse = teacher.WIDTHS
        generators(self.run.seed, "features/weights", 0)
        module = Vit(settings.width, settings.depth, settings.heads, (fine, fine, coarse, coarse)).to(self.run.device)
        stage = stages.DistillStage(module, teacher, seen, options, self.run.device, settings.crop, settings.own)
        return self._fit(stage, "features")

    def _teacher(self):
        """EfficientNet-lite0, its channels standardised over crops of the user's pictures and procedural scenes."""
        settings = self.recipe.features
        teacher, rng = Teacher(settings.teacher or None).to(self.run.device), generators(self.run.seed, "teacher", 0)
        own = [stages.crops(self.good, rng, 8, settings.crop) for _ in range(16)]
        foreign = [np.stack([scene(rng, settings.crop, settings.crop) for _ in range(8)]) for _ in range(16)]
        teacher.standardise([pictures.to_tensor(b).to(self.run.device) for b in own + foreign])
        return teacher

    def pairs(self):
        """What the features are fine-tuned on: pictures beside their reconstructions, made once."""
        settings, finetune = self.recipe.denoise, self.recipe.finetune
        count = min(finetune.pairs, len(self._of))
        good = spread(min(count, len(self.good)), len(self.good))
        pairs = stages.Pairs(self.good[good], self._reconstructed("good", self.latents()[0], good, finetune.denoise_step, finetune.inference_steps))
        if finetune.contrast:
            # As the inspection makes them: from its own step.
            bad = spread(count, len(self._of))
            again = self._reconstructed("damaged", self.latents()[1], bad, settings.step, settings.inference_steps)
            plain = self._reconstructed("plain", self.latents()[0], good, settings.step, settings.inference_steps)
            pairs = stages.Pairs(
                np.concatenate([pairs.pictures, pairs.pictures, self.damaged()[bad]]),
                np.concatenate([pairs.reconstructions, plain, again]),
                np.concatenate([np.zeros((2 * len(good), *self.good.shape[1:3]), bool), self.masks()[bad]]),
            )
        return pairs

    def _reconstructed(self, name, latents, picks, step, inference_steps):
        labels = None
        if self.labels is not None:
            labels = self.labels[picks] if name != "damaged" else self.labels[self._of[picks]]
        key = self._key(self.fingerprint("autoencoder", "denoiser"), self.run.seed, name, picks.tolist(), step, inference_steps)
        path = self.run.folder / f"reconstructed-{name}-{key}.npy"
        if not path.exists():
            generators(self.run.seed, f"reconstructed/{name}", 0)
            save_array(path, stages.reconstruct(self.unet(), self.autoencoder(), latents[picks], step, inference_steps, self.run.device, labels, self.run.progress))
        return np.load(path)

    def features(self):
        if self._features is None:
            module, settings = self.untuned(), self.recipe.finetune
            if settings.steps:
                # A given transformer's position embeddings are for whole pictures.
                crop = 0 if self.recipe.features.path else settings.crop
                stage = stages.FinetuneStage(module, copy.deepcopy(module), self.pairs(), self.options(settings), self.run.device, crop, settings.distillation,
                                             settings.contrast)  # fmt: skip
                module = self._fit(stage, "finetune")
            self._features = module
        return self._features

    def modules(self):
        """The bundle's five graphs as torch modules, with the weights that the bundle stores; trains what is not trained yet."""
        recipe, score = self.recipe, self.recipe.score
        autoencoder, unet, features = (copy.deepcopy(m) for m in (self.autoencoder(), self.unet(), self.features()))
        # The exporter would fold the norms itself, into weights that are no halves any more.
        fold_norms(features)
        if recipe.half:
            for network in (autoencoder, unet, features):
                round_to_half(network)
        size = self.latent_shape()[1:]
        return {
            "vae_encoder": graphs.Encoder(autoencoder, recipe.autoencoder.encode == "sample"),
            "unet": unet,
            "vae_decoder": graphs.Decoder(autoencoder),
            "dino_gate": graphs.Gate(features, size, 1 if recipe.features.path else score.gate_scale),
            "dino_score": graphs.Score(features, score.map_size, score.weights, score.pixel, score.pixel_by_maximum, score.sigma, score.both, score.resolution,
                                       score.distance).to(self.run.device),  # fmt: skip
        }

    def denoise(self, modules):
        """The recipe's denoising; a gate threshold that it leaves open is learned from 60 of the good parts."""
        denoise = self.recipe.denoise
        if denoise.threshold is not None:
            return denoise
        picks = spread(min(60, len(self.good)), len(self.good))
        labels = None if self.labels is None else self.labels[picks]
        return dataclasses.replace(denoise, threshold=glad.learned_gate(modules, self.good[picks], denoise, labels, self.run.progress))

    def export(self, folder, command, note=""):
        """Writes the bundle; returns each graph's largest difference to torch. note: for the provenance."""
        recipe, score, modules = self.recipe, self.recipe.score, self.modules()
        channels, height, width = self.latent_shape()
        denoise = dataclasses.asdict(self.denoise(modules))
        manifest = {
            "name": recipe.name,
            "version": recipe.version,
            "image": dataclasses.asdict(recipe.image),
            "latent": {"channels": channels, "width": width, "height": height, "encode": recipe.autoencoder.encode},
            "denoise": {key: value for key, value in denoise.items() if value is not None},
            "score": {"top_k": score.top_k, "map_size": score.map_size, "object_mask": score.object_mask, "standardise": score.standardise},
            "classes": recipe.classes,
            "provenance": {
                "command": command,
                **({"note": note} if note else {}),
                "recipe": dataclasses.asdict(recipe),
                "seed": self.run.seed,
                "device": self.run.device.type,
                "software": {name: importlib.metadata.version(name) for name in SOFTWARE},
                "pictures": {"count": len(self.good), "sha256": self.digest},
                "given": self.given,
            },
        }
        # Exported and compared on the CPU, where ONNX Runtime is.
        modules = {name: module.cpu() for name, module in modules.items()}
        # Read from their checkpoints again, should anyone ask: the copies above are what is exported.
        self._autoencoder = self._unet = self._features = None
        # Attention over 64 x 64 patches takes gigabytes for each picture.
        batches = (1, 3) if recipe.image.width * recipe.image.height < 512 * 512 else (1, 2)
        return write_bundle(folder, modules, manifest, pictures.to_tensor(self.good[:3]), recipe.half, batches=batches)
