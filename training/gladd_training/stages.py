"""What is trained, one class a network: its loss for a step, and a sheet to look at."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from .graphs import nearest_distance
from .pictures import sheet, to_tensor, to_uint8
from .schedule import TRAIN_TIMESTEPS, add_noise, alpha_bars, denoise
from .textures import scene


def crops(pictures, rng, count, side):
    """uint8 [count,side,side,3]: random crops of random pictures."""
    found = []
    for i in rng.integers(0, len(pictures), count):
        y, x = (rng.integers(0, n - side + 1) for n in pictures.shape[1:3])
        found.append(pictures[i, y : y + side, x : x + side])
    return np.stack(found)


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
        decoded = self.module.decoder(latent).float()
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
def encode_all(module, pictures, device):
    """float32 [N,C,h,w] on the CPU: scaled latent means."""
    return torch.cat([module.encode(to_tensor(pictures[i : i + 8]).to(device))[0].float().cpu() for i in range(0, len(pictures), 8)])


def oriented_target(z_normal, z_syn, noise, alpha_bar):
    """GLAD's anomaly-oriented target of a sample noised from z_syn: the eps that leads to z_normal.

    x = sqrt(alphaBar) zSyn + sqrt(1-alphaBar) n, and x0 = zNormal if
    eps = (x - sqrt(alphaBar) zNormal) / sqrt(1-alphaBar). (The official code has
    zNormal and zSyn the other way round, which leads to 2 zSyn - zNormal.)
    """
    bar = torch.as_tensor(alpha_bar).reshape(-1, 1, 1, 1)
    return noise + (bar / (1 - bar)).sqrt() * (z_syn - z_normal)


class DenoiserStage:
    """Anomaly-oriented training on cached latents.

    damaged[i] is the latent of good[of[i]] with a synthetic anomaly. Half of the
    samples stay normal. zSyn = a zAnomalous + (1-a) zNormal with a = timestep/1000.
    """

    def __init__(self, module, autoencoder, good, damaged, of, options, device, sheet_step=500, normal_share=0.5, max_timestep=TRAIN_TIMESTEPS):
        self.module, self.autoencoder, self.good, self.damaged, self.of = module, autoencoder, good, damaged, of
        self.options, self.device, self.sheet_step, self.normal_share, self.max_timestep = options, device, sheet_step, normal_share, max_timestep
        self.bars = alpha_bars().float()

    def parameters(self):
        return self.module.parameters()

    def loss(self, rng):
        count = self.options.batch
        picks = rng.integers(0, len(self.damaged), count)
        normal = self.good[self.of[picks]]
        anomalous = torch.where(torch.from_numpy(rng.random(count) < self.normal_share).reshape(-1, 1, 1, 1), normal, self.damaged[picks])
        timestep = torch.from_numpy(rng.integers(0, self.max_timestep, count))
        a = (timestep / TRAIN_TIMESTEPS).reshape(-1, 1, 1, 1)
        z_syn = a * anomalous + (1 - a) * normal
        noise = torch.randn_like(normal)
        bar = self.bars[timestep]
        x = add_noise(z_syn, noise, bar)
        eps = oriented_target(normal, z_syn, noise, bar)
        bar = bar.reshape(-1, 1, 1, 1)
        # MSE of v, which is the MSE of eps divided by alphaBar: low signals count as much as high ones.
        target = (bar.sqrt() * eps - (1 - bar).sqrt() * normal).to(self.device)
        v = self.module.velocity(x.to(self.device), timestep.to(self.device)).float()
        loss = F.mse_loss(v, target)
        return loss, {"loss": loss.item()}

    def sheet(self):
        z = self.damaged[:8]
        x = add_noise(z, torch.randn_like(z), float(self.bars[self.sheet_step])).to(self.device)
        out = denoise(self.module, x, self.sheet_step, 10)
        decode = lambda latent: to_uint8(self.autoencoder.decode(latent.to(self.device)))
        return sheet([decode(z), decode(out), decode(self.good[self.of[:8]])])


class DistillStage:
    """A small ViT learns the teacher's maps, the coarser ones resized to its grid: 1 - cosine, and smooth L1."""

    def __init__(self, module, teacher, pictures, options, device, crop=128, own=0.5):
        self.module, self.teacher, self.pictures, self.options, self.device = module, teacher, pictures, options, device
        self.crop, self.own = crop, own

    def parameters(self):
        return self.module.parameters()

    def batch(self, rng):
        own = int(self.options.batch * self.own)
        return np.concatenate([crops(self.pictures, rng, own, self.crop), np.stack([scene(rng, self.crop, self.crop) for _ in range(self.options.batch - own)])])

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


@torch.no_grad()
def reconstruct(unet, autoencoder, latents, step, inference_steps, device):
    """uint8 [N,H,W,3]: what plain DDIM makes of latents noised to `step`."""
    bar, made = float(alpha_bars()[step]), []
    for i in range(0, len(latents), 8):
        z = latents[i : i + 8]
        x = add_noise(z, torch.randn_like(z), bar).to(device)
        made.append(to_uint8(autoencoder.decode(denoise(unet, x, step, inference_steps))))
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
    untouched network (official code: train_dino.py). Only the MLPs of the tapped
    blocks change.

    contrast, beyond the paper: the weight of a term that asks of each patch's
    nearest distance, as the bundle's graphs compute it, whether there is a
    synthetic anomaly. It is the focal loss (Lin 2017) of a logistic function of
    the distance, one for all layers together. The heads change too then.
    """

    def __init__(self, module, untouched, pairs, options, device, crop=128, distillation=0.01, contrast=0.0):
        self.module, self.untouched, self.pairs, self.options, self.device = module, untouched, pairs, options, device
        self.crop, self.distillation, self.contrast = crop, distillation, contrast
        self.tuned = module.tuned()
        if contrast:
            # Of the logistic function: slope and offset. They are no part of the network, and start where distances lie.
            self.line = torch.nn.Parameter(torch.tensor([10.0, 0.4], device=device))
            self.tuned += [*module.heads.parameters()]
        for parameter in self.tuned:
            parameter.requires_grad_(True)

    def parameters(self):
        return self.tuned + ([self.line] if self.contrast else [])

    def batch(self, rng):
        """Crops of pictures, the same of their reconstructions, and of their masks."""
        side, found = self.crop, []
        height, width = self.pairs.pictures.shape[1:3]
        for i in rng.integers(0, len(self.pairs.pictures), self.options.batch):
            y, x = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
            masks = self.pairs.masks
            if masks is not None and masks[i].any():
                # Around a pixel of the anomaly: most crops would miss a small one.
                ys, xs = masks[i].nonzero()
                k = rng.integers(len(ys))
                y = int(np.clip(ys[k] - rng.integers(0, side), 0, height - side))
                x = int(np.clip(xs[k] - rng.integers(0, side), 0, width - side))
            cut = (i, slice(y, y + side), slice(x, x + side))
            found.append((self.pairs.pictures[cut], self.pairs.reconstructions[cut], np.zeros((side, side), bool) if masks is None else masks[cut]))
        return tuple(np.stack(v) for v in zip(*found))

    def loss(self, rng):
        # The stem's batch statistics stay as the distillation left them.
        self.module.eval()
        pictures, reconstructions, masks = self.batch(rng)
        normal = torch.from_numpy(~masks.any((1, 2)))
        both = to_tensor(np.concatenate([pictures, reconstructions])).to(self.device)
        count = len(pictures)
        now = self.module(both)
        with torch.no_grad():
            before = self.untouched(both)
        whole = lambda a, b: (1 - F.cosine_similarity(a.float().flatten(1), b.float().flatten(1)))
        alike = sum((whole(m[:count], m[count:]) * normal).sum() for m in now) / max(int(normal.sum()), 1)
        kept = sum(whole(m, b).mean() for m, b in zip(now, before, strict=True))
        figures = {"alike": alike.item(), "kept": kept.item()}
        total = alike + self.distillation * kept
        if self.contrast:
            distance = sum(nearest_distance(m[:count].float(), m[count:].float()) for m in now) / len(now)
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
        picks = np.linspace(0, len(self.pairs.pictures) - 1, 8).astype(int)
        return sheet([self.pairs.pictures[picks], self.pairs.reconstructions[picks]])
