"""Attention between the many patches of an image and the few texts about it."""

from torch import Tensor, nn


class TextAttention(nn.Module):
    """Multi-head attention between few text tokens and many patches, in either direction.

    The projections of the patches are applied to the text instead: (x W_q)(y W_k)^T = x (W_q W_k^T y^T), and the
    same for values and the output. With two texts this is 2 x heads vectors instead of a wide matrix product for every
    patch, with the same result.

    Args:
        width: D, width of queries, keys, values and the result.
        inner: Width of all heads together.
        heads: Attention heads.
    """

    def __init__(self, width: int, inner: int = 256, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, inner)
        self.to_k = nn.Linear(width, inner)
        self.to_v = nn.Linear(width, inner)
        self.to_out = nn.Linear(inner, width)
        self.scale = (inner // heads) ** -0.5

    def from_few(
        self,
        few: Tensor,  # (B or 1, S, D)
        many: Tensor,  # (B or 1, N, D)
    ) -> tuple[Tensor, Tensor]:  # (B, S, D), and the weights (B, heads, S, N)
        """Attend from few queries to many tokens."""
        q = self._split(self.to_q(few) * self.scale)  # (B, h, S, d)
        wide = q @ self._heads_of(self.to_k.weight)  # (B, h, S, D)
        bias = q @ self.to_k.bias.view(self.heads, -1, 1)  # (B, h, S, 1)
        scores = (wide.flatten(1, 2) @ many.transpose(1, 2)).unflatten(1, (self.heads, -1)) + bias
        weights = scores.softmax(-1)
        read = (weights.flatten(1, 2) @ many).unflatten(1, (self.heads, -1))  # (B, h, S, D)
        values = read @ self._heads_of(self.to_v.weight).transpose(1, 2) + self.to_v.bias.view(self.heads, 1, -1)
        return self.to_out(values.transpose(1, 2).flatten(2)), weights

    def from_many(
        self,
        many: Tensor,  # (B, N, D)
        few: Tensor,  # (B or 1, S, D)
    ) -> Tensor:  # (B, N, D)
        """Attend from many queries to few tokens."""
        k, v = self._split(self.to_k(few) * self.scale), self._split(self.to_v(few))  # (B, h, S, d)
        wide = (k @ self._heads_of(self.to_q.weight)).flatten(1, 2)  # (B, h S, D)
        bias = (k @ self.to_q.bias.view(self.heads, -1, 1)).flatten(1)[:, None]  # (B, 1, h S)
        weights = (many @ wide.transpose(1, 2) + bias).unflatten(-1, (self.heads, -1)).softmax(-1)
        values = (v @ self._heads_of(self.to_out.weight.T)).flatten(1, 2)  # (B, h S, D)
        return weights.flatten(2) @ values + self.to_out.bias

    def _split(
        self,
        x: Tensor,  # (B, S, inner)
    ) -> Tensor:  # (B, h, S, d)
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _heads_of(
        self,
        matrix: Tensor,  # (inner, D)
    ) -> Tensor:  # (h, d, D)
        return matrix.unflatten(0, (self.heads, -1))
