"""Networks that exist already, read from local folders and files: diffusers' autoencoders and UNets,
DINO's vision transformers. Nothing is downloaded.

They have the same faces as the small ones beside them, so that every stage and
graph takes either.
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from .. import TrainingError

# ImageNet's statistics, which DINO's networks were trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DINO_ARCHITECTURES = {"vit_small": (384, 6), "vit_base": (768, 12)}  # width, heads; twelve blocks


def _pretrained(kind, path, file="config.json", **options):
    path = Path(path)
    if not (path / file).is_file():
        raise TrainingError(f"{path}: expected a folder of diffusers with {file} in it, found none")
    try:
        return kind.from_pretrained(str(path), local_files_only=True, torch_dtype=torch.float32, **options)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise TrainingError(f"{path}: not a folder that {kind.__name__} reads: {error}") from error


class GivenAutoencoder(nn.Module):
    """diffusers' AutoencoderKL; its scaling factor takes the place of shift and scale."""

    def __init__(self, path):
        super().__init__()
        from diffusers import AutoencoderKL

        self.vae = _pretrained(AutoencoderKL, path, low_cpu_mem_usage=False)
        self.latent_channels = self.vae.config.latent_channels
        shift = getattr(self.vae.config, "shift_factor", None) or 0.0
        self.register_buffer("shift", torch.full((1, self.latent_channels, 1, 1), float(shift)))
        self.register_buffer("scale", torch.full((1, self.latent_channels, 1, 1), float(self.vae.config.scaling_factor)))

    def posterior(self, image):
        distribution = self.vae.encode(image).latent_dist
        return distribution.mean, distribution.logvar

    def decode_raw(self, latent):
        return self.vae.decode(latent, return_dict=False)[0]

    def encode(self, image):
        mean, log_variance = self.posterior(image)
        return (mean - self.shift) * self.scale, (0.5 * log_variance).exp() * self.scale

    def decode(self, latent):
        return self.decode_raw(latent / self.scale + self.shift)


class GivenUNet(nn.Module):
    """diffusers' UNet2DConditionModel with prompts that never change, and guidance:
    eps = eps(negative) + guidance * (eps(prompt) - eps(negative)).

    prompts: float [K,L,D], one a class (K = 1 without classes); negative: float
    [L,D]. Training is without guidance, on the prompt alone, as in the official code.
    """

    predicts = "eps"

    def __init__(self, path, prompts, negative, guidance=9.0):
        super().__init__()
        from diffusers import UNet2DConditionModel

        self.unet = _pretrained(UNet2DConditionModel, path, low_cpu_mem_usage=False)
        width = self.unet.config.cross_attention_dim
        if prompts.dim() != 3 or prompts.shape[2] != width or negative.shape != prompts.shape[1:]:
            raise TrainingError(f"{path}: expected embeddings of {width} values a token, prompts [K,L,{width}] and negative [L,{width}]; "
                                f"found {tuple(prompts.shape)} and {tuple(negative.shape)}")  # fmt: skip
        self.guidance = guidance
        self.register_buffer("prompts", prompts.float())
        self.register_buffer("negative", negative.float())

    def _prompt(self, sample, class_index):
        if class_index is None:
            return self.prompts.expand(sample.shape[0], -1, -1)
        return self.prompts[class_index.long()]

    def _eps(self, sample, timestep, prompt):
        return self.unet(sample, timestep, encoder_hidden_states=prompt, return_dict=False)[0]

    def predict(self, sample, timestep, class_index=None):
        """What is trained: eps under the prompt."""
        return self._eps(sample, timestep, self._prompt(sample, class_index))

    def forward(self, sample, timestep, class_index=None):
        prompt = self._prompt(sample, class_index)
        if self.guidance == 1:
            return self._eps(sample, timestep, prompt)
        # Both in one batch, as diffusers does.
        negative = self.negative[None].expand(sample.shape[0], -1, -1)
        both = self._eps(torch.cat([sample, sample]), torch.cat([timestep, timestep]), torch.cat([negative, prompt]))
        of_negative, of_prompt = both.chunk(2)
        return of_negative + self.guidance * (of_prompt - of_negative)


def embed_prompts(folder, prompts):
    """float [K,L,D]: prompts through the tokenizer and the text encoder of a folder of Stable Diffusion."""
    try:
        from transformers import CLIPTextModel, CLIPTokenizer
    except ImportError as error:
        raise TrainingError("prompts need the package transformers: pip install 'gladd-training[prompts]', or name a file of embeddings") from error
    folder = Path(folder)
    encoder = _pretrained(CLIPTextModel, folder / "text_encoder")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(f"{folder / 'tokenizer'}: not a folder that CLIPTokenizer reads: {error}") from error
    tokens = tokenizer(list(prompts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        return encoder(tokens)[0].float()


def read_embeddings(path):
    """(prompts [K,L,D], negative [L,D]) of a safetensors file with these names."""
    from safetensors.torch import load_file

    try:
        tensors = load_file(str(path))
    except Exception as error:  # the reader's own kinds of error are no public names
        raise TrainingError(f"{path}: not a readable safetensors file: {error}") from error
    if set(tensors) != {"prompts", "negative"}:
        raise TrainingError(f"{path}: expected the tensors prompts [K,L,D] and negative [L,D], found {', '.join(sorted(tensors)) or 'none'}")
    return tensors["prompts"], tensors["negative"]


class GivenDino(nn.Module):
    """DINO's vision transformer (Caron 2021): tokens of blocks 3, 6, 9 and 12, without the class token.

    path: the published file of weights (dino_deitsmall16_pretrain.pth and such);
    its width and patch size are read from it. None: random ones of an architecture
    and a patch size. sizes: the pictures' (height, width) that it will see; position
    embeddings are interpolated once for each.

    The official code gives the score's network pictures standardised as ImageNet's
    are, and the gate's pictures in [-1,1] as they are: standardise says which.
    """

    TAPS = (3, 6, 9, 12)

    def __init__(self, path, sizes, architecture="vit_base", patch=8):
        super().__init__()
        from timm.models.vision_transformer import VisionTransformer

        state = None
        if path is not None:
            state = self.read(path)
            width, patch = state["patch_embed.proj.weight"].shape[0], state["patch_embed.proj.weight"].shape[2]
            found = [name for name, (w, _) in DINO_ARCHITECTURES.items() if w == width]
            if not found:
                raise TrainingError(f"{path}: expected ViT-S or ViT-B, 384 or 768 wide; found {width}")
            architecture = found[0]
        width, heads = DINO_ARCHITECTURES[architecture]
        self.patch = patch
        # DINO's own pictures are of 224 pixels, and so are its position embeddings.
        self.vit = VisionTransformer(img_size=224, patch_size=patch, embed_dim=width, depth=12, num_heads=heads, num_classes=0)
        if self.vit.norm.eps != 1e-6:
            raise TrainingError(f"expected layer norms with an epsilon of 1e-6, as DINO has, found {self.vit.norm.eps}; another version of timm?")
        self.vit.patch_embed.strict_img_size = False
        if state is not None:
            try:
                missing, unknown = self.vit.load_state_dict(state, strict=False)
            except RuntimeError as error:
                raise TrainingError(f"{path}: not DINO's ViT: {error}") from error
            if missing or unknown:
                raise TrainingError(f"{path}: not DINO's ViT; missing {missing[:3]}, unknown {unknown[:3]}")
        whole = self.vit.pos_embed.detach()
        del self.vit.pos_embed
        for height, across in sizes:
            if height % patch or across % patch:
                raise TrainingError(f"a ViT with patches of {patch} needs sides that are multiples of {patch}, found {across}x{height}")
            self.register_buffer(f"position_{height}x{across}", self._interpolate(whole, (height // patch, across // patch)))
        self.register_buffer("mean", torch.tensor(MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).reshape(1, 3, 1, 1), persistent=False)

    @staticmethod
    def read(path):
        """The weights of a file."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # pickle, zip and system errors alike
            raise TrainingError(f"{path}: not a readable file of weights: {error}") from error
        if not isinstance(state, dict) or "patch_embed.proj.weight" not in state or "pos_embed" not in state:
            raise TrainingError(f"{path}: expected the weights of DINO's ViT, with patch_embed.proj.weight and pos_embed")
        return {name: value.float() for name, value in state.items() if not name.startswith(("head.", "fc."))}

    @staticmethod
    def _interpolate(embedding, grid):
        """Position embeddings for a grid (DINO's interpolate_pos_encoding: bicubic, the scale nudged by 0.1 of a cell)."""
        side = round((embedding.shape[1] - 1) ** 0.5)
        if grid == (side, side):
            return embedding.clone()
        of_class, patches = embedding[:, :1], embedding[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        patches = F.interpolate(patches, scale_factor=tuple((n + 0.1) / side for n in grid), mode="bicubic")
        return torch.cat([of_class, patches.flatten(2).transpose(1, 2)], 1)

    def forward(self, image, standardise=True):
        height, across = image.shape[2:]
        if standardise:
            image = ((image + 1) / 2 - self.mean) / self.std
        x = self.vit.patch_embed(image)
        x = torch.cat([self.vit.cls_token.expand(x.shape[0], -1, -1), x], 1) + getattr(self, f"position_{int(height)}x{int(across)}")
        maps = []
        for i, block in enumerate(self.vit.blocks, 1):
            x = block(x)
            if i in self.TAPS:
                maps.append(x[:, 1:].transpose(1, 2).reshape(x.shape[0], -1, int(height) // self.patch, int(across) // self.patch))
        return maps

    def tuned(self):
        """The parameters that the paper's fine-tuning changes: the MLPs of blocks 3, 6, 9 and 12."""
        return [p for i in self.TAPS for p in self.vit.blocks[i - 1].mlp.parameters()]
