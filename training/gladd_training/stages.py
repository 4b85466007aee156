"""What is trained, one class a network: its loss for a step, and a sheet to look at."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch.nn import functional as F

from .graphs import nearest_distance
from .loop import progress
from .pictures import sheet, to_tensor, to_uint8
from .schedule import TRAIN_TIMESTEPS, add_noise, alpha_bars, denoise
from .textures import scene


def crops(pictures, rng, count, side):
    """uint8 [count,side,side,3]: random crops of random pictures."""
    found = [np.empty((0, side, side, 3), np.uint8)]
    for i in rng.integers(0, len(pictures), count):
        y, x = (rng.integers(0, n - side + 1) for n in pictures.shape[1:3])
        found.append(pictures[i, y : y + side, x : x + side][None])
    return np.concatenate(found)


class AutoencoderStage:
    """L1 and gradient loss, a small KL term; on good parts and on parts with synthetic anomalies,
    for a defect has to survive the way into the latents."""

    def __init__(self, module, good, damaged, options, device, crop=96, kl=1e-6):
        self.module, self.good, self.damaged, self.options, self.device = module, good, damaged, options, device
        self.crop, self.kl = crop, kl

    def parameters(self):
        return self.module.parameters()

    def loss(self, rng):
        half = self.options.batch // 2
        images = np.concatenate([crops(self.good, rng, self.options.batch - half, self.crop), crops(self.damaged, rng, half, self.crop)])
        image = to_tensor(images).to(self.device)
        mean, log_variance = self.module.posterior(image)
        mean, log_variance = mean.float(), log_variance.float()
        latent = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        decoded = self.module.decode_raw(latent).float()
        l1 = F.l1_loss(decoded, image)
        slope = F.l1_loss(decoded.diff(dim=2), image.diff(dim=2)) + F.l1_loss(decoded.diff(dim=3), image.diff(dim=3))
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        psnr = 10 * torch.log10(4 / F.mse_loss(decoded, image))
        return l1 + slope + self.kl * kl, {"l1": l1.item(), "psnr": psnr.item(), "kl": kl.item()}

    def sheet(self):
        pictures = np.concatenate([self.good[:4], self.damaged[:4]])
        decoded = self.module.decode(self.module.encode(to_tensor(pictures).to(self.device))[0])
        return sheet([pictures, to_uint8(decoded)])


@torch.no_grad()
def scale_latents(module, good, device):
    """Sets the latents' shift and scale so that good parts' have mean 0 and deviation 1, per channel."""
    means = torch.cat([module.posterior(to_tensor(good[i : i + 8]).to(device))[0].float() for i in range(0, len(good), 8)])
    values = means.transpose(0, 1).flatten(1)
    module.shift.copy_(values.mean(1).reshape(module.shift.shape))
    module.scale.copy_(1 / values.std(1).clamp_min(1e-6).reshape(module.scale.shape))


@torch.no_grad()
def encode_all(module, pictures, device, shown=False):
    """float32 [N,C,h,w] on the CPU: scaled latent means."""
    batches = progress(range(0, len(pictures), 8), "latents", shown)
    return torch.cat([module.encode(to_tensor(pictures[i : i + 8]).to(device))[0].float().cpu() for i in batches])


def oriented_target(z_normal, z_syn, noise, alpha_bar, sign=1):
    """GLAD's anomaly-oriented target of a sample noised from z_syn: the eps that leads to z_normal.

    x = sqrt(alphaBar) zSyn + sqrt(1-alphaBar) n, and x0 = zNormal if
    eps = (x - sqrt(alphaBar) zNormal) / sqrt(1-alphaBar).

    sign -1: zNormal and zSyn the other way round, which leads to 2 zSyn - zNormal.
    The official code (main.py, predict_eps) had the one above when it was
    published, and has the other since March 2025.
    """
    bar = torch.as_tensor(alpha_bar).reshape(-1, 1, 1, 1)
    return noise + sign * (bar / (1 - bar)).sqrt() * (z_syn - z_normal)


class DenoiserStage:
    """Anomaly-oriented training on cached latents.

    damaged[i] is the latent of good[of[i]] with a synthetic anomaly. Half of the
    samples stay normal. zSyn = a zAnomalous + (1-a) zNormal with a = timestep/1000.
    """

    def __init__(self, module, autoencoder, good, damaged, of, options, device, sheet_step=500, normal_share=0.5, max_timestep=TRAIN_TIMESTEPS,
                 labels=None, orientation="normal"):  # fmt: skip
        self.module, self.autoencoder, self.good, self.damaged, self.of, self.labels = module, autoencoder, good, damaged, of, labels
        self.sign = {"normal": 1, "published": -1}[orientation]
        self.options, self.device, self.sheet_step, self.normal_share, self.max_timestep = options, device, sheet_step, normal_share, max_timestep
        self.bars = alpha_bars().float()

    def parameters(self):
        return self.module.parameters()

    def loss(self, rng):
        count = self.options.batch
        picks = rng.integers(0, len(self.damaged), count)
        stays = rng.random(count) < self.normal_share
        part = np.where(stays, rng.integers(0, len(self.good), count), self.of[picks])
        normal = self.good[part]
        anomalous = torch.where(torch.from_numpy(stays).reshape(-1, 1, 1, 1), normal, self.damaged[picks])
        timestep = torch.from_numpy(rng.integers(0, self.max_timestep, count))
        a = (timestep / TRAIN_TIMESTEPS).reshape(-1, 1, 1, 1)
        z_syn = a * anomalous + (1 - a) * normal
        noise = torch.randn_like(normal)
        bar = self.bars[timestep]
        x = add_noise(z_syn, noise, bar)
        eps = oriented_target(normal, z_syn, noise, bar, self.sign)
        target = eps
        if self.module.predicts == "v":
            # The MSE of v is that of eps divided by alphaBar: low signals count as much as high ones.
            bar = bar.reshape(-1, 1, 1, 1)
            x0 = (x - (1 - bar).sqrt() * eps) / bar.sqrt()
            target = bar.sqrt() * eps - (1 - bar).sqrt() * x0
        predicted = self.module.predict(x.to(self.device), timestep.to(self.device), *self.classes(part)).float()
        loss = F.mse_loss(predicted, target.to(self.device))
        return loss, {"loss": loss.item()}

    def classes(self, parts):
        """The class argument of the network for good parts, by index; none where there are no classes."""
        return () if self.labels is None else (torch.from_numpy(self.labels[parts]).to(self.device),)

    def sheet(self):
        picks = np.linspace(0, len(self.damaged) - 1, 8).astype(int)
        z = self.damaged[picks]
        x = add_noise(z, torch.randn_like(z), float(self.bars[self.sheet_step])).to(self.device)
        out = denoise(self.module, x, self.sheet_step, 10, *self.classes(self.of[picks]))
        decode = lambda latent: to_uint8(self.autoencoder.decode(latent.to(self.device)))
        return sheet([decode(z), decode(out), decode(self.good[self.of[picks]])])


class DistillStage:
    """A small ViT learns the teacher's maps, the coarser ones resized to its grid: 1 - cosine, and smooth L1."""

    def __init__(self, module, teacher, pictures, options, device, crop=128, own=0.5):
        self.module, self.teacher, self.pictures, self.options, self.device = module, teacher, pictures, options, device
        self.crop, self.own = crop, own

    def parameters(self):
        return self.module.parameters()

    def batch(self, rng):
        own = int(self.options.batch * self.own)
        foreign = [scene(rng, self.crop, self.crop)[None] for _ in range(self.options.batch - own)]
        return np.concatenate([crops(self.pictures, rng, own, self.crop), *foreign])

    def loss(self, rng):
        image = to_tensor(self.batch(rng)).to(self.device)
        with torch.no_grad():
            fine, coarse = (m.float() for m in self.teacher(image))
        maps = self.module(image)
        total, figures = 0, {}
        for i, m in enumerate(maps):
            m = m.float()
            target = fine if i < 2 else F.interpolate(coarse, m.shape[2:], mode="bilinear", align_corners=False)
            cosine = (1 - F.cosine_similarity(m, target, dim=1)).mean()
            total = total + cosine + F.smooth_l1_loss(m, target)
            figures[f"cosine{i}"] = cosine.item()
        return total / len(maps), figures

    def sheet(self):
        return None


class Dino(torch.nn.Module):
    """A student and its teacher, the student's moving average, each with a projection head."""

    def __init__(self, vit, outputs=1024):
        super().__init__()
        head = torch.nn.Sequential(torch.nn.Linear(vit.width, 512), torch.nn.GELU(), torch.nn.Linear(512, 256))
        self.vit, self.head = vit, head
        self.prototypes = torch.nn.Linear(256, outputs, bias=False)
        self.average = copy.deepcopy(torch.nn.ModuleList([vit, head, self.prototypes])).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(1, outputs))

    @staticmethod
    def project(vit, head, prototypes, image):
        """[N,outputs]: cosines of the mean token's projection with the prototypes."""
        token = vit(image)[-1].mean((2, 3))
        return F.linear(F.normalize(head(token), dim=1), F.normalize(prototypes.weight, dim=1))

    def student(self):
        return self.vit


class DinoStage:
    """DINO's own method (Caron 2021): the student shall say of small views of a picture what its
    average says of large ones. Temperatures and the centre's momentum are the paper's; that of
    the average stays at 0.996, where the paper raises it to 1."""

    def __init__(self, vit, pictures, options, device, crop=128, own=0.5, local=4):
        self.module = Dino(vit).to(device)
        self.pictures, self.options, self.device, self.crop, self.own, self.local = pictures, options, device, crop, own, local

    def parameters(self):
        return [*self.module.vit.parameters(), *self.module.head.parameters(), *self.module.prototypes.parameters()]

    def view(self, picture, rng, side, low, high):
        """uint8 [side,side,3]: a part of the picture, its colours changed."""
        height, width = picture.shape[:2]
        edge = int(min(height, width) * rng.uniform(low, high))
        y, x = rng.integers(0, height - edge + 1), rng.integers(0, width - edge + 1)
        image = Image.fromarray(picture[y : y + edge, x : x + edge]).resize((side, side), Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if rng.random() < 0.8:
            for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                image = enhancer(image).enhance(float(rng.uniform(0.6, 1.4)))
        return np.asarray(image)

    def loss(self, rng):
        module = self.module
        with torch.no_grad():
            for kept, now in zip(module.average.parameters(), self.parameters(), strict=True):
                kept.lerp_(now, 1 - 0.996)
        count = self.options.batch
        own = int(count * self.own)
        seen = [self.pictures[i] for i in rng.integers(0, len(self.pictures), own)] + [scene(rng, self.crop, self.crop) for _ in range(count - own)]
        large = np.stack([self.view(p, rng, self.crop, 0.5, 1.0) for _ in range(2) for p in seen])
        small = np.stack([self.view(p, rng, self.crop // 2, 0.2, 0.5) for _ in range(self.local) for p in seen])
        large, small = (to_tensor(v).to(self.device) for v in (large, small))
        with torch.no_grad():
            said = Dino.project(*module.average, large).float()
            wanted = F.softmax((said - module.centre) / 0.04, 1).chunk(2)
            module.centre.lerp_(said.mean(0, keepdim=True), 0.1)
        answers = [*Dino.project(module.vit, module.head, module.prototypes, large).float().chunk(2)]
        answers += Dino.project(module.vit, module.head, module.prototypes, small).float().chunk(self.local)
        terms = [-(w * F.log_softmax(a / 0.1, 1)).sum(1).mean() for i, w in enumerate(wanted) for k, a in enumerate(answers) if k != i]
        spread = said.std(0).mean()  # falls to 0 where everything looks alike: collapse
        total = sum(terms) / len(terms)
        return total, {"loss": total.item(), "spread": spread.item()}

    def sheet(self):
        return None


@torch.no_grad()
def reconstruct(unet, autoencoder, latents, step, inference_steps, device, labels=None, shown=False):
    """uint8 [N,H,W,3]: what plain DDIM makes of latents noised to `step`."""
    bar, made = float(alpha_bars()[step]), []
    for i in progress(range(0, len(latents), 8), "reconstructions", shown):
        z = latents[i : i + 8]
        x = add_noise(z, torch.randn_like(z), bar).to(device)
        classes = () if labels is None else (torch.from_numpy(labels[i : i + 8]).to(device),)
        made.append(to_uint8(autoencoder.decode(denoise(unet, x, step, inference_steps, *classes))))
    return np.concatenate(made)


@dataclass
class Pairs:
    """Pictures beside their reconstructions, uint8 [N,H,W,3], and where an anomaly is, bool [N,H,W]; None: nowhere."""

    pictures: np.ndarray
    reconstructions: np.ndarray
    masks: np.ndarray | None = None


class FinetuneStage:
    """GLAD's fine-tuning of the features: a good part and its reconstruction shall look alike.

    The loss is 1 - cosine of each layer as a whole, between picture and
    reconstruction, plus `distillation` times the same between the tuned and the
    untouched network, for the picture and for the reconstruction (official code:
    train_dino.py). Only the MLPs of the tapped blocks change.

    contrast, beyond the paper: the weight of a term that asks of each patch's
    nearest distance, as the bundle's graphs compute it, whether there is a
    synthetic anomaly. It is the focal loss (Lin 2017) of a logistic function of
    the distance, one for all layers together. The heads change too then.

    crop: the side of the crops that it is done on; 0: whole pictures.
    """

    def __init__(self, module, untouched, pairs, options, device, crop=128, distillation=0.01, contrast=0.0):
        self.module, self.untouched, self.pairs, self.options, self.device = module, untouched, pairs, options, device
        self.crop, self.distillation, self.contrast = crop, distillation, contrast
        self.tuned, self.beside = module.tuned(), []
        if contrast:
            # Of the logistic function: slope and offset. They are no part of the network, and start where distances lie.
            self.line = torch.nn.Parameter(torch.tensor([10.0, 0.4], device=device))
            self.beside = [self.line]
            self.tuned += [*getattr(module, "heads", torch.nn.Module()).parameters()]
        for parameter in self.tuned:
            parameter.requires_grad_(True)

    def parameters(self):
        return self.tuned + self.beside

    def batch(self, rng):
        """Crops of pictures, the same of their reconstructions, and of their masks."""
        found = []
        height, width = self.pairs.pictures.shape[1:3]
        tall, wide = (self.crop, self.crop) if self.crop else (height, width)
        for i in rng.integers(0, len(self.pairs.pictures), self.options.batch):
            y, x = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
            masks = self.pairs.masks
            if masks is not None and masks[i].any():
                # Around a pixel of the anomaly: most crops would miss a small one.
                ys, xs = masks[i].nonzero()
                k = rng.integers(len(ys))
                y = int(np.clip(ys[k] - rng.integers(0, tall), 0, height - tall))
                x = int(np.clip(xs[k] - rng.integers(0, wide), 0, width - wide))
            cut = (i, slice(y, y + tall), slice(x, x + wide))
            found.append((self.pairs.pictures[cut], self.pairs.reconstructions[cut], np.zeros((tall, wide), bool) if masks is None else masks[cut]))
        return tuple(np.stack(v) for v in zip(*found))

    def loss(self, rng):
        # The stem's batch statistics stay as the distillation left them.
        self.module.eval()
        pictures, reconstructions, masks = self.batch(rng)
        normal = torch.from_numpy(~masks.any((1, 2))).to(self.device)
        both = to_tensor(np.concatenate([pictures, reconstructions])).to(self.device)
        count = len(pictures)
        now = self.module(both)
        with torch.no_grad():
            before = self.untouched(both)
        whole = lambda a, b: (1 - F.cosine_similarity(a.float().flatten(1), b.float().flatten(1)))
        alike = sum((whole(m[:count], m[count:]) * normal).sum() for m in now) / max(int(normal.sum()), 1)
        # As many pictures as reconstructions: the mean of all, twice, is the sum of both means.
        kept = sum(2 * whole(m, b).mean() for m, b in zip(now, before, strict=True))
        figures = {"alike": alike.item(), "kept": kept.item()}
        total = alike + self.distillation * kept
        if self.contrast:
            finest = now[0].shape[2:]
            grids = [nearest_distance(m[:count].float(), m[count:].float()) for m in now]
            distance = sum(g if g.shape[2:] == finest else F.interpolate(g, finest, mode="bilinear") for g in grids) / len(grids)
            covered = F.adaptive_avg_pool2d(torch.from_numpy(masks).float()[:, None], distance.shape[2:]).to(self.device)
            logit = self.line[0] * (distance - self.line[1])
            # Patches that an anomaly touches only a little are neither.
            clear, there = (covered == 0) | (covered > 0.2), (covered > 0.2).float()
            miss = F.binary_cross_entropy_with_logits(logit, there, reduction="none")
            focal = (1 - torch.exp(-miss)) ** 2 * miss * clear
            told = 0.5 * (focal * there).sum() / there.sum().clamp_min(1) + 0.5 * (focal * (1 - there)).sum() / (clear * (1 - there)).sum().clamp_min(1)
            figures.update(told=told.item(), inside=((distance * there).sum() / there.sum().clamp_min(1)).item(), outside=(distance * (1 - there)).mean().item())
            total = total + self.contrast * told
        return total, figures

    def sheet(self):
        """Pictures, their reconstructions, and how far apart the tuned features and the untouched ones find them."""
        picks = np.linspace(0, len(self.pairs.pictures) - 1, 8).astype(int)
        pictures, reconstructions = self.pairs.pictures[picks], self.pairs.reconstructions[picks]
        both, rows = to_tensor(np.concatenate([pictures, reconstructions])).to(self.device), []
        for network in (self.untouched, self.module):
            maps = [nearest_distance(*m.float().chunk(2)) for m in network(both)]
            rows.append(sum(F.interpolate(m, pictures.shape[1:3], mode="bilinear") for m in maps) / len(maps))
        highest = rows[0].amax().clamp_min(1e-6)
        return sheet([pictures, reconstructions, *(to_uint8((2 * r / highest - 1).expand(-1, 3, -1, -1)) for r in rows)])
