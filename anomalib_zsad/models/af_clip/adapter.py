"""The modules of AF-CLIP: window aggregation, the adaptor and the state prompts (arXiv 2507.19949, section 4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.clip.plain_vision import LinearHead
from anomalib_zsad.models.parts.text_side import words_beside


class WindowAggregation(nn.Module):
    """Replace every patch by the weighted sum of a window around it, eq. 5-6.

    A Gaussian window is separable: over a grid it is one banded matrix along the rows and one along the columns, so no
    windows are unfolded. The grid is padded with zeros, and the weights are not renormalised at the border.

    Args:
        windows: Side of each window in patches, odd; 1 is the identity.
        sigma: Standard deviation of the weights in patches.
    """

    def __init__(self, windows: Sequence[int] = (1, 3, 5), sigma: float = 4.0) -> None:
        super().__init__()
        self.windows = tuple(windows)
        self.sigma = sigma

    def forward(
        self,
        tokens: Tensor,  # (B, 1 + N, C), any C: the operation is linear
        grid: tuple[int, int],
    ) -> Tensor:  # (R, B, 1 + N, C), the class token unchanged
        """Aggregate at every window size."""
        patches = tokens[:, 1:].unflatten(1, grid)
        scales = [tokens if window == 1 else self._aggregate(tokens, patches, window) for window in self.windows]
        return torch.stack(scales)

    def _aggregate(
        self,
        tokens: Tensor,  # (B, 1 + N, C)
        patches: Tensor,  # (B, gh, gw, C)
        window: int,
    ) -> Tensor:
        rows, columns = (self._band(n, window, patches.device).to(patches) for n in patches.shape[1:3])
        patches = (rows @ patches.flatten(2)).unflatten(2, patches.shape[2:])
        return torch.cat([tokens[:, :1], (columns @ patches).flatten(1, 2)], dim=1)

    def _band(self, n: int, window: int, device: torch.device) -> Tensor:  # (n, n)
        places = torch.arange(n, device=device)
        offset = places[:, None] - places
        reach = torch.arange(window, device=device) - window // 2
        weights, total = (torch.exp(-(x.float() ** 2) / (2 * self.sigma**2)) for x in (offset, reach))
        return weights * (offset.abs() <= window // 2) / total.sum()


@dataclass(frozen=True)
class JointTokens:
    """Tokens in the space shared with texts, eq. 7, in factored form.

    A token of the adaptor is out = W a + b with a of 512 values; its projection is u = proj^T ln_post(out). Only the
    direction of u is used, which is that of s * u = M a + m + s p, with s the standard deviation of `out`. Cosines and
    sums of unit vectors follow from a and two quadratic forms in it, so the 12 sets of wide tokens are not computed.
    """

    inner: Tensor  # (..., T, I) a
    deviation: Tensor  # (..., T, 1) s
    length: Tensor  # (..., T, 1) |s u|
    matrix: Tensor  # (D, I) M
    offset: Tensor  # (D,) m
    shift: Tensor  # (D,) p

    @classmethod
    def of(
        cls,
        inner: Tensor,  # (..., T, I)
        out: nn.Linear,
        head: LinearHead,
    ) -> "JointTokens":
        """Project the adaptor's inner tokens to the joint space."""
        norm, projection, _ = head
        weight, bias = out.weight - out.weight.mean(0), out.bias - out.bias.mean()  # the mean that ln_post subtracts
        to_joint = projection.T * norm.weight
        matrix, offset, shift = to_joint @ weight, to_joint @ bias, projection.T @ norm.bias
        shift = shift if head.bias is None else shift + head.bias
        variance = _squared_norms(inner, weight) + 2 * inner @ (weight.T @ bias)[:, None] + bias.square().sum()
        s = torch.sqrt(variance / len(bias) + norm.eps)
        cross = inner @ torch.stack([matrix.T @ offset, matrix.T @ shift], dim=1)
        square = _squared_norms(inner, matrix) + 2 * cross[..., :1] + offset.square().sum()
        square = square + 2 * s * (cross[..., 1:] + offset @ shift) + s.square() * shift.square().sum()
        return cls(inner, s, square.clamp(min=torch.finfo(square.dtype).tiny).sqrt(), matrix, offset, shift)

    def cosines(
        self,
        text: Tensor,  # (S, D), unit length
    ) -> Tensor:  # (..., T, S)
        """Compute the cosine of every token with every text."""
        along = self.inner @ (text @ self.matrix).T + text @ self.offset + self.deviation * (text @ self.shift)
        return along / self.length

    def unit_sums(
        self,
        weights: Tensor,  # (B, T), one weight for each token
    ) -> Tensor:  # (..., B, D)
        """Compute the weighted sum of the unit-length tokens of every image."""
        scaled = weights[..., None] / self.length
        inner = (scaled * self.inner).sum(-2)
        return inner @ self.matrix.T + scaled.sum(-2) * self.offset + (scaled * self.deviation).sum(-2) * self.shift


@dataclass(frozen=True)
class PlainTokens:
    """Tokens in the space shared with texts as CLIP itself projects them: rows "base" and V1 of table 4."""

    unit: Tensor  # (..., T, D), unit length

    @classmethod
    def of(
        cls,
        tokens: Tensor,  # (..., T, C)
        clip: FrozenClip,
    ) -> "PlainTokens":
        """Project the tokens of a layer to the joint space, eq. 7."""
        return cls(F.normalize(clip.project(tokens), dim=-1))

    def cosines(
        self,
        text: Tensor,  # (S, D), unit length
    ) -> Tensor:  # (..., T, S)
        """Compute the cosine of every token with every text."""
        return self.unit @ text.T

    def unit_sums(
        self,
        weights: Tensor,  # (B, T), one weight for each token
    ) -> Tensor:  # (..., B, D)
        """Compute the weighted sum of the tokens of every image."""
        return (weights[..., None] * self.unit).sum(-2)


class Adaptor(nn.Module):
    """Attention over the tokens of a layer, the same for all layers and windows, without a residual, eq. 3-4.

    The preceding layer norm and the window aggregation are both linear up to one factor for each token, so queries,
    keys and values are computed once for each layer and then aggregated, instead of once for every window.

    Args:
        width: C, width of the tokens.
        heads: Attention heads.
        head_width: Width of each head.
    """

    def __init__(self, width: int, heads: int = 8, head_width: int = 64) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(width, inner, bias=False)
        self.to_v = nn.Linear(width, inner, bias=False)
        self.to_out = nn.Linear(inner, width)

    def forward(
        self,
        tokens: Tensor,  # (B, T, C)
        grid: tuple[int, int],
        aggregate: WindowAggregation,
    ) -> Tensor:  # (R, B, T, I), the input of `to_out`
        """Aggregate the tokens at every window size, and compute self-attention within each set."""
        centred = tokens - tokens.mean(-1, keepdim=True)
        variance = aggregate(centred, grid).square().mean(-1, keepdim=True)
        weight = torch.cat([self.to_q.weight, self.to_k.weight, self.to_v.weight])
        qkv = aggregate(centred @ (weight * self.norm.weight).T, grid)
        qkv = qkv * torch.rsqrt(variance + self.norm.eps) + weight @ self.norm.bias
        q, k, v = qkv.flatten(0, 1).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        return attended.transpose(1, 2).flatten(2).unflatten(0, (len(aggregate.windows), -1))


class StatePrompts(nn.Module):
    """Two prompts, of a normal and of an anomalous state, that share learnable vectors, eq. 8.

    The vectors precede the start-of-text token; the feature is read at the end-of-text token, whose position they
    shift. Later tokens cannot change it (the text tower is causal) and are not encoded.

    Args:
        clip: The frozen CLIP.
        texts: The words of each state, the normal one first.
        length: Number of learnable vectors; with 0 nothing is learnt.

    Raises:
        ValueError: If the prompts do not fit into the text tower's context.
    """

    end: Tensor
    words: Tensor

    def __init__(self, clip: FrozenClip, texts: Sequence[str], length: int = 12) -> None:
        super().__init__()
        words, end = words_beside(clip, texts, length)
        vectors = torch.randn(1, length, clip.text_width) * 0.01
        self.vectors = nn.Parameter(vectors, requires_grad=length > 0)
        self.register_buffer("end", end, persistent=False)
        self.register_buffer("words", words, persistent=False)

    def forward(self, clip: FrozenClip) -> Tensor:  # (S, D), unit length
        """Encode the prompts."""
        words = torch.cat([self.vectors.expand(len(self.words), -1, -1), self.words], dim=1)
        return F.normalize(clip.encode_text(words, self.end), dim=-1)


def _squared_norms(
    vectors: Tensor,  # (..., I)
    matrix: Tensor,  # (O, I)
) -> Tensor:  # (..., 1)
    """Compute |matrix v|^2, by a quadratic form in v where that is smaller than the product."""
    if len(matrix) > matrix.shape[1]:
        return ((vectors @ (matrix.T @ matrix)) * vectors).sum(-1, keepdim=True)
    return (vectors @ matrix.T).square().sum(-1, keepdim=True)
