"""A small latent UNet. Predicts v inside, returns eps (Salimans & Ho 2022, appendix D)."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from ..schedule import alpha_bars


def timestep_embedding(timestep, width):
    """[N] -> [N,width]: sines and cosines (Vaswani 2017), as diffusion models use them."""
    frequencies = torch.exp(-math.log(10000) * torch.arange(width // 2, device=timestep.device) / (width // 2))
    angles = timestep.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)


class Block(nn.Module):
    def __init__(self, inner, outer, embedding):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, inner), nn.Conv2d(inner, outer, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, outer), nn.Conv2d(outer, outer, 3, padding=1)
        self.embed = nn.Linear(embedding, 2 * outer)
        self.skip = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x, embedding):
        scale, shift = self.embed(embedding)[:, :, None, None].chunk(2, 1)
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y) * (1 + scale) + shift))
        return self.skip(x) + y


class Attention(nn.Module):
    def __init__(self, channels, heads=4):
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.out = nn.GroupNorm(8, channels), nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x):
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, 3, self.heads, c // self.heads, h * w).transpose(3, 4).unbind(1)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(2, 3).reshape(n, c, h, w))


class UNet(nn.Module):
    """eps [N,C,h,w] of sample [N,C,h,w], timestep [N] and, for several classes, class_index [N].

    Attention at 1/2 and 1/4. The position map, for parts that lie still, is
    learned and added to the first features.
    """

    predicts = "v"

    def __init__(self, height, width, latent_channels=4, channels=(64, 128, 192), position_map=True, classes=0):
        super().__init__()
        a, b, c = channels
        self.width = a
        embedding = 4 * a
        self.time = nn.Sequential(nn.Linear(a, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())
        self.classes = nn.Embedding(classes, embedding) if classes else None
        self.first = nn.Conv2d(latent_channels, a, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(1, a, height, width)) if position_map else None
        block = lambda inner, outer: Block(inner, outer, embedding)
        self.down1, self.down1b, self.shrink1 = block(a, a), block(a, a), nn.Conv2d(a, b, 3, stride=2, padding=1)
        self.down2, self.down2b, self.at2, self.shrink2 = block(b, b), block(b, b), Attention(b), nn.Conv2d(b, c, 3, stride=2, padding=1)
        self.mid1, self.at3, self.mid2 = block(c, c), Attention(c), block(c, c)
        self.grow2, self.up2, self.at2u = nn.Conv2d(c, b, 3, padding=1), block(2 * b, b), Attention(b)
        self.up2b = block(2 * b, b)
        self.grow1, self.up1, self.up1b = nn.Conv2d(b, a, 3, padding=1), block(2 * a, a), block(2 * a, a)
        self.norm, self.last = nn.GroupNorm(8, a), nn.Conv2d(a, latent_channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.register_buffer("alpha_bars", alpha_bars().float(), persistent=False)

    def predict(self, sample, timestep, class_index=None):
        """v = sqrt(alphaBar) eps - sqrt(1-alphaBar) x0."""
        embedding = self.time(timestep_embedding(timestep, self.width))
        if self.classes is not None:
            embedding = embedding + self.classes(class_index)
        x = self.first(sample)
        if self.position is not None:
            x = x + self.position
        s1 = self.down1(x, embedding)
        s1b = self.down1b(s1, embedding)
        s2 = self.down2(self.shrink1(s1b), embedding)
        s2b = self.at2(self.down2b(s2, embedding))
        x = self.mid2(self.at3(self.mid1(self.shrink2(s2b), embedding)), embedding)
        x = self.grow2(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = self.at2u(self.up2(torch.cat([x, s2b], 1), embedding))
        x = self.up2b(torch.cat([x, s2], 1), embedding)
        x = self.grow1(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = self.up1(torch.cat([x, s1b], 1), embedding)
        x = self.up1b(torch.cat([x, s1], 1), embedding)
        return self.last(F.silu(self.norm(x)))

    def bar(self, timestep):
        return self.alpha_bars[timestep.long()].reshape(-1, 1, 1, 1)

    def forward(self, sample, timestep, class_index=None):
        bar = self.bar(timestep)
        return bar.sqrt() * self.predict(sample, timestep, class_index) + (1 - bar).sqrt() * sample
