"""Self-attention with the weights of a block of CLIP: the block's own, and that of its values to themselves."""

from torch import Tensor, nn
from torch.nn import functional as F


def self_attention(
    attention: nn.MultiheadAttention,
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
    attention: nn.MultiheadAttention,
    x: Tensor,  # (B, T, C)
) -> Tensor:  # (3, B, heads, T, C / heads)
    batch, length, _ = x.shape
    qkv = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    return qkv.view(batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)


def _joined(
    attention: nn.MultiheadAttention,
    heads: Tensor,  # (B, heads, T, C / heads)
) -> Tensor:  # (B, T, C)
    return attention.out_proj(heads.transpose(1, 2).flatten(2))
