"""A small KL autoencoder: 1/8 of the picture's size, four channels.

Without normalisation layers: a part's brightness must survive the way there and
back, and statistics over a picture would mix a defect into its surroundings.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x):
        return x + self.second(F.silu(self.first(F.silu(x))))


class Autoencoder(nn.Module):
    """channels: at 1/2, 1/4 and 1/8. Latents are scaled: (raw - shift) * scale, set after training."""

    def __init__(self, channels=(32, 64, 128), latent_channels=4, blocks=2):
        super().__init__()
        a, b, c = channels
        stack = lambda n, count: [Residual(n) for _ in range(count)]
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(12, a, 3, padding=1), *stack(a, 1),
            nn.Conv2d(a, b, 3, stride=2, padding=1), *stack(b, blocks),
            nn.Conv2d(b, c, 3, stride=2, padding=1), *stack(c, blocks),
            nn.SiLU(), nn.Conv2d(c, 2 * latent_channels, 3, padding=1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, c, 3, padding=1), *stack(c, blocks),
            nn.Conv2d(c, 4 * b, 1), nn.PixelShuffle(2), *stack(b, blocks),
            nn.Conv2d(b, 4 * a, 1), nn.PixelShuffle(2), *stack(a, 1),
            nn.SiLU(), nn.Conv2d(a, 12, 3, padding=1), nn.PixelShuffle(2),
        )  # fmt: skip
        self.register_buffer("shift", torch.zeros(1, latent_channels, 1, 1))
        self.register_buffer("scale", torch.ones(1, latent_channels, 1, 1))

    def posterior(self, image):
        """Raw mean and log variance, each [N,C,H/8,W/8]."""
        mean, log_variance = self.encoder(image).chunk(2, 1)
        return mean, log_variance.clamp(-30, 20)

    def encode(self, image):
        """Scaled latent mean and std."""
        mean, log_variance = self.posterior(image)
        return (mean - self.shift) * self.scale, (0.5 * log_variance).exp() * self.scale

    def decode_raw(self, latent):
        return self.decoder(latent)

    def decode(self, latent):
        """The picture of a scaled latent; may leave [-1,1]."""
        return self.decode_raw(latent / self.scale + self.shift)
