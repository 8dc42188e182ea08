"""The small CLIP while it learns: open_clip's, with the word embeddings of a small vocabulary."""

import math

import open_clip
import torch
from tiny_batches import Batch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.clip.named import config_of
from anomalib_zsad.clip.packing import VOCABULARY, pack


class TinyClip(nn.Module):
    """open_clip's CLIP with the word embeddings of a small vocabulary; the forward pass is written out for speed.

    Args:
        vocabulary: Token numbers; all others share one embedding.
    """

    def __init__(self, vocabulary: list[int]) -> None:
        super().__init__()
        config = config_of("zsad-tiny")
        config["text_cfg"] = {**config["text_cfg"], "vocab_size": len(vocabulary) + 1}
        self.clip = open_clip.CLIP(**config)
        _start(self.clip)
        self.register_buffer("numbers", torch.tensor(vocabulary))
        index = torch.full((VOCABULARY,), len(vocabulary))
        index[self.numbers] = torch.arange(len(vocabulary))
        self.register_buffer("index", index)

    def image_tokens(
        self,
        images: Tensor,  # (B, 3, H, W)
        corner: tuple[int, int],
        gelu: str,
    ) -> Tensor:  # (B, 1 + N, D)
        """Encode pictures; the class token and the patches all come to the joint space.

        Pictures smaller than the model's have the positions of the part of the grid that begins at `corner`.
        """
        vision = self.clip.visual
        x = vision.conv1(images).flatten(2).transpose(1, 2)
        side = math.isqrt(x.shape[1])
        positions, (top, left) = vision.positional_embedding, corner
        patches = positions[1:].unflatten(0, vision.grid_size)[top : top + side, left : left + side]
        first = (vision.class_embedding + positions[0]).expand(len(x), 1, -1)
        x = vision.ln_pre(torch.cat([first, x + patches.flatten(0, 1)], dim=1))
        with torch.autocast("cpu", torch.bfloat16):
            for block in vision.transformer.resblocks:
                x = _block(block, x, gelu, causal=False)
        return vision.ln_post(x) @ vision.proj  # in float32: at first all features are close to one another

    def text_features(
        self,
        texts: Tensor,  # (P, T)
        ends: Tensor,  # (P,)
        gelu: str,
        shift: int,
    ) -> Tensor:  # (P, D)
        """Encode captions that start at position `shift`."""
        clip = self.clip
        x = clip.token_embedding(self.index[texts]) + clip.positional_embedding[shift : shift + texts.shape[1]]
        for block in clip.transformer.resblocks:
            x = _block(block, x, gelu, causal=True)
        return clip.ln_final(x[torch.arange(len(x)), ends]) @ clip.text_projection

    def packed(self, batch: Batch) -> dict[str, Tensor]:
        """Give the weights as the package keeps them, the means of a batch's features folded into them."""
        visual, text = _means(self, batch, tokens=slice(0, 1))
        state = {name: tensor.detach().clone() for name, tensor in self.clip.state_dict().items()}
        state.pop("attn_mask", None)
        state["visual.ln_post.bias"] -= visual
        state["ln_final.bias"] -= text
        rows = state["token_embedding.weight"]
        table = torch.zeros(VOCABULARY, rows.shape[1])
        table[self.numbers] = rows[:-1]
        return pack({**state, "token_embedding.weight": table}, self.numbers, rows[-1])


def _start(clip: nn.Module) -> None:
    """Begin where contrast learns fast: features that differ from the first step, positions that are waves."""
    vision = clip.visual
    grid, width = vision.grid_size[0], vision.conv1.out_channels
    waves = torch.arange(grid)[:, None] / 10000 ** (torch.arange(width // 4) / (width / 4))
    one = torch.cat([waves.sin(), waves.cos()], dim=1)
    both = torch.cat([one[:, None].expand(-1, grid, -1), one[None].expand(grid, -1, -1)], dim=2)
    with torch.no_grad():
        vision.positional_embedding[1:] = 0.2 * both.flatten(0, 1)
        vision.class_embedding *= 0.1
        clip.token_embedding.weight *= 20
        clip.positional_embedding *= 5
        for block in (*vision.transformer.resblocks, *clip.transformer.resblocks):
            for part in block.attn.in_proj_weight.chunk(3)[2], block.attn.out_proj.weight:
                nn.init.orthogonal_(part)  # what is attended to passes on as a whole


@torch.no_grad()
def _means(model: TinyClip, batch: Batch, tokens: slice) -> tuple[Tensor, Tensor]:
    """Say what to take from the biases of the last layer norms for features whose mean is zero."""
    images = model.image_tokens(batch.images, batch.corner, "gelu")[:, tokens].flatten(0, 1)
    texts = model.text_features(*batch.words, "gelu", 0)
    ends = ((images, model.clip.visual.proj), (texts, model.clip.text_projection))
    visual, text = (features.mean(0) @ projection.pinverse() for features, projection in ends)
    return visual, text


@torch.no_grad()
def centre(model: TinyClip, batch: Batch) -> None:
    """Begin with features that point everywhere: from a common direction both towers slide into one point."""
    visual, text = _means(model, batch, tokens=slice(None))
    model.clip.visual.ln_post.bias -= visual
    model.clip.ln_final.bias -= text
    model.clip.logit_scale.fill_(math.log(8))


def whiten(clip: nn.Module, patches: Tensor) -> None:
    """Begin the patch embedding with the main components of patches, each of nearly the same variance.

    Args:
        clip: An open_clip.CLIP.
        patches: (K, 3 * PATCH * PATCH), normalised.
    """
    weight = clip.visual.conv1.weight
    values, vectors = torch.linalg.eigh(patches.T.cov())
    values, vectors = values.flip(0)[: len(weight)], vectors.flip(1)[:, : len(weight)]
    rows = (vectors / (values + 0.02 * values[0]).sqrt()).T
    with torch.no_grad():
        weight.copy_(0.5 * rows.view_as(weight))


def _block(block: nn.Module, x: Tensor, gelu: str, causal: bool) -> Tensor:
    attention, mlp = block.attn, block.mlp
    qkv = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = qkv.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)
    x = x + attention.out_proj(out)
    wide = mlp.c_fc(block.ln_2(x))
    wide = wide * torch.sigmoid(1.702 * wide) if gelu == "quick_gelu" else F.gelu(wide)
    return x + mlp.c_proj(wide)
