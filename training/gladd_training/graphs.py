"""The five graphs of a bundle as torch modules, ready to export."""

import torch
from torch import nn
from torch.nn import functional as F

from .networks.given import GivenDino


class Encoder(nn.Module):
    """The latent's mean; with sample its standard deviation too."""

    def __init__(self, autoencoder, sample=False):
        super().__init__()
        self.autoencoder, self.sample = autoencoder, sample

    def forward(self, image):
        mean, std = self.autoencoder.encode(image)
        return (mean, std) if self.sample else mean


class Decoder(nn.Module):
    def __init__(self, autoencoder):
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latent):
        return self.autoencoder.decode(latent)


def nearest_distance(test, reconstructed):
    """[N,c,h,w] twice -> [N,1,h,w]: for each patch of the test picture, the smallest
    1 - cosine to any patch of the reconstruction."""
    n, _, h, w = test.shape
    unit = lambda m: F.normalize(m.flatten(2), dim=1, eps=1e-6)
    cosine = unit(test).transpose(1, 2) @ unit(reconstructed)
    return (1 - cosine.amax(2)).reshape(n, 1, h, w)


def place_distance(test, reconstructed):
    """[N,c,h,w] twice -> [N,1,h,w]: the Euclidean distance, over sqrt(c), of the two patches at
    the same place, each averaged over its neighbourhood of 3x3 as in PatchCore (Roth 2022)."""
    difference = F.avg_pool2d(test - reconstructed, 3, 1, 1, count_include_pad=False)
    return (difference**2).mean(1, keepdim=True).sqrt()


class Gate(nn.Module):
    """The last layer's distance on the latent grid, from pictures scaled by `scale`.

    A given DINO sees them in [-1,1] as they are, as in the official code.
    """

    def __init__(self, features, latent_size, scale=1.0):
        super().__init__()
        self.features, self.latent_size, self.scale = features, latent_size, scale
        self.as_they_are = {"standardise": False} if isinstance(features, GivenDino) else {}

    def forward(self, test_image, reconstructed_image):
        n = test_image.shape[0]
        both = torch.cat([test_image, reconstructed_image])
        if self.scale != 1:
            both = F.avg_pool2d(both, round(1 / self.scale))
        last = self.features(both, **self.as_they_are)[-1]
        distance = nearest_distance(last[:n], last[n:])
        if tuple(distance.shape[2:]) != tuple(self.latent_size):
            distance = F.interpolate(distance, self.latent_size, mode="bilinear", align_corners=True)
        return distance


def gaussian(sigma):
    """A kernel that reaches as far as the official code's: int(4 sigma + 0.5)."""
    radius = max(1, int(4 * sigma + 0.5))
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    return kernel / kernel.sum()


class Score(nn.Module):
    """Distances of all layers summed, with the pixel distance, blurred: [N,1,S,S].

    distance: nearest, as in the paper, or place. both: also from the
    reconstruction's patches to the test picture's nearest. pixel:
    weight of the mean absolute difference of the channels; with
    pixel_by_maximum, as in the official code, it is scaled so that its highest
    value is `pixel` times the features' highest in the same picture. sigma: of
    the blur, in the map's pixels; edges reflected.
    """

    def __init__(self, features, map_size, weights=(), pixel=0.5, pixel_by_maximum=False, sigma=4.0, both=False, resolution=0, distance="nearest"):
        super().__init__()
        self.distance = distance
        self.features, self.map_size, self.weights, self.pixel = features, map_size, weights, pixel
        self.pixel_by_maximum, self.both, self.resolution = pixel_by_maximum, both, resolution
        self.register_buffer("kernel", gaussian(sigma), persistent=False)

    def distances(self, test_image, reconstructed_image):
        """[N,1,S,S] twice, not blurred: of the features, all layers summed, and of the pixels, not weighted."""
        (of_features,), of_pixels = self.distances_by([self.distance], test_image, reconstructed_image)
        return of_features, of_pixels

    def distances_by(self, names, test_image, reconstructed_image):
        """As distances, with the features' once for each name of a distance."""
        n, size = test_image.shape[0], (self.map_size, self.map_size)
        if self.resolution:
            shrink = lambda image: F.interpolate(image, (self.resolution, self.resolution), mode="bilinear", align_corners=True)
            test_image, reconstructed_image = shrink(test_image), shrink(reconstructed_image)
        layers = self.features(torch.cat([test_image, reconstructed_image]))
        totals = [0] * len(names)
        for weight, layer in zip(self.weights or [1] * len(layers), layers, strict=True):
            if not weight:
                continue
            for k, name in enumerate(names):
                distance = self._distance(name, layer[:n], layer[n:])
                totals[k] = totals[k] + weight * F.interpolate(distance, size, mode="bilinear", align_corners=True)
        pixel = (test_image - reconstructed_image).abs().mean(1, keepdim=True)
        return totals, F.interpolate(pixel, size, mode="bilinear", align_corners=True)

    def _distance(self, name, test, reconstructed):
        if name == "place":
            return place_distance(test, reconstructed)
        distance = nearest_distance(test, reconstructed)
        return distance + nearest_distance(reconstructed, test) if self.both else distance

    def combined(self, features, pixel):
        """The map from the two distances."""
        if self.pixel:
            scale = self.pixel
            if self.pixel_by_maximum:
                scale = self.pixel * features.amax((1, 2, 3), keepdim=True) / pixel.amax((1, 2, 3), keepdim=True).clamp_min(1e-6)
            features = features + scale * pixel
        radius = len(self.kernel) // 2
        total = F.pad(features, (radius, radius, radius, radius), mode="reflect")
        total = F.conv2d(total, self.kernel.reshape(1, 1, 1, -1))
        return F.conv2d(total, self.kernel.reshape(1, 1, -1, 1))

    def forward(self, test_image, reconstructed_image):
        return self.combined(*self.distances(test_image, reconstructed_image))
