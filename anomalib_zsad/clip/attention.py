"""Self-attention with the weights of a block of CLIP: its own, changed ones, and of values to themselves."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Attention:
    """The weights of a block's self-attention where they are not all those of CLIP."""

    num_heads: int
    in_proj_weight: Tensor  # (3 C, C)
    in_proj_bias: Tensor  # (3 C,)
    out_weight: Tensor  # (C, C)
    out_bias: Tensor  # (C,)

    @classmethod
    def of(
        cls,
        attention: nn.MultiheadAttention,
        into: Tensor,  # (3 C, C) of queries, keys and values
        out: Tensor,  # (C, C)
    ) -> "Attention":
        """Add to the weights of a block."""
        inside, outside = attention.in_proj_weight + into, attention.out_proj.weight + out
        return cls(attention.num_heads, inside, attention.in_proj_bias, outside, attention.out_proj.bias)

    @classmethod
    def of_values(cls, attention: nn.MultiheadAttention) -> "Attention":
        """Attend with the values as queries and keys too, instead of as the block does."""
        weight, bias = (each.chunk(3)[2] for each in (attention.in_proj_weight, attention.in_proj_bias))
        outside = attention.out_proj
        return cls(attention.num_heads, weight.repeat(3, 1), bias.repeat(3), outside.weight, outside.bias)

    def out_proj(
        self,
        x: Tensor,  # (B, T, C)
    ) -> Tensor:  # (B, T, C)
        """Project what the heads have gathered."""
        return F.linear(x, self.out_weight, self.out_bias)


class ValueAttention:
    """Attend with the values as queries and keys too: softmax(V V^T / sqrt(d)) V, with the weights of timm's attention.

    Args:
        attention: timm's `Attention`, `AttentionRope` or `EvaAttention`.
    """

    def __init__(self, attention: Any) -> None:
        self.attention = attention

    def __call__(
        self,
        x: Tensor,  # (B, T, C), after the block's first norm
    ) -> Tensor:  # (B, T, C)
        """Attend."""
        v = self._values(x).unflatten(-1, (self.attention.num_heads, -1)).transpose(1, 2)
        attended = F.scaled_dot_product_attention(v, v, v).transpose(1, 2).flatten(2)
        return self.attention.proj(self.attention.norm(attended))

    def _values(
        self,
        x: Tensor,  # (B, T, C)
    ) -> Tensor:  # (B, T, C)
        if (separate := getattr(self.attention, "v_proj", None)) is not None:
            return separate(x)
        joined = self.attention.qkv
        bias = getattr(self.attention, "v_bias", None)  # of `EvaAttention`, whose joined bias is in three parts
        if bias is None and joined.bias is not None:
            bias = joined.bias.chunk(3)[2]
        return F.linear(x, joined.weight.chunk(3)[2], bias)


def value_attention(attention: Any) -> "Attention | ValueAttention":
    """Return V-V attention with the weights of a block's own, of open_clip or of timm."""
    return Attention.of_values(attention) if isinstance(attention, nn.MultiheadAttention) else ValueAttention(attention)


def self_attention(
    attention: nn.MultiheadAttention | Attention,
    x: Tensor,  # (B, T, C), after the block's first layer norm
    causal: bool = False,
) -> Tensor:  # (B, T, C)
    """Attend as the block does."""
    # Not open_clip's module: its fused native operator cannot be exported.
    q, k, v = _queries_keys_values(attention, x)
    return _joined(attention, F.scaled_dot_product_attention(q, k, v, is_causal=causal))


def with_value_attention(
    attention: nn.MultiheadAttention,
    x: Tensor,  # (B, T, C), after the block's first layer norm
) -> tuple[Tensor, Tensor]:  # (B, T, C) twice
    """Attend as the block does, and beside it with the values as queries and keys: softmax(V V^T / sqrt(d)) V.

    Source: CLIP Surgery (arXiv 2304.05653); KAnoCLIP eq. 4 and 8.
    """
    q, k, v = _queries_keys_values(attention, x)
    attended = (F.scaled_dot_product_attention(*each) for each in ((q, k, v), (v, v, v)))
    own, of_values = (_joined(attention, each) for each in attended)
    return own, of_values


def _queries_keys_values(
    attention: nn.MultiheadAttention | Attention,
    x: Tensor,  # (B, T, C)
) -> Tensor:  # (3, B, heads, T, C / heads)
    batch, length, _ = x.shape
    qkv = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    return qkv.view(batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)


def _joined(
    attention: nn.MultiheadAttention | Attention,
    heads: Tensor,  # (B, heads, T, C / heads)
) -> Tensor:  # (B, T, C)
    return attention.out_proj(heads.transpose(1, 2).flatten(2))
