"""Semantic-Aware Mixture-of-Experts: the context of all layers chooses what is added to the class token (eq. 8)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.functional.processes import sum_over_processes
from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices


class Routed(NamedTuple):
    """The mixed output of the experts, and the weights of the router."""

    mix: Tensor  # (B, D) x_p
    logits: Tensor  # (B, E) of the router, with the noise that it was given
    weights: Tensor  # (B, E), exactly 0 where an expert was not chosen


class LayerContext(nn.Module):
    """Combines the pooled patches of all layers to one context x_a.

    Args:
        width: D.
        n_layers: L.
        choices: Whether each layer has a linear map to a share of the context, or all have one together.

    Raises:
        ValueError: If the width cannot be shared among the layers.
    """

    def __init__(self, width: int, n_layers: int, choices: WMoEChoices = WMoEChoices()) -> None:
        super().__init__()
        kind = choices.moe_adapter
        if kind == "split" and width % n_layers:
            words = "needs a number of feature_layers that divides the joint width"
            msg = f'choices.moe_adapter="split" {words} {width}, got {n_layers}'
            raise ValueError(msg)
        sizes = [(width, width // n_layers)] * n_layers if kind == "split" else [(n_layers * width, width)]
        self.linears = nn.ModuleList(nn.Linear(*size) for size in sizes)

    def forward(
        self,
        pooled: Tensor,  # (B, L, D), means over the patches: pooling and linear maps commute
    ) -> Tensor:  # (B, D)
        """Compute x_a."""
        parts = pooled.unbind(1) if len(self.linears) > 1 else [pooled.flatten(1)]
        return torch.cat([linear(part) for linear, part in zip(self.linears, parts, strict=True)], dim=-1)


class SemanticExperts(nn.Module):
    """Mixture of the top-k experts that a router chooses for an image, eq. 8.

    All experts run, in one batched product over one vector for each image, with weights of exactly 0 for those that
    were not chosen: the graph does not depend on data and can be exported, and these experts get no gradient.

    Args:
        width: D.
        context: Computes x_a.
        n_experts: E.
        top_k: Number of experts for an image.
        choices: Width of the hidden layer of each expert; whether the router has noise in training, whose scale is
            learnt from the context (Shazeer et al. 2017, eq. 4, with W_noise initialised with zeros).

    Raises:
        ValueError: If `top_k` is larger than the number of experts.
    """

    def __init__(
        self,
        width: int,
        context: LayerContext,
        n_experts: int = 8,
        top_k: int = 2,
        choices: WMoEChoices = WMoEChoices(),
    ) -> None:
        super().__init__()
        hidden, noise = choices.expert_hidden, choices.gate_noise
        if not 1 <= top_k <= n_experts:
            msg = f"top_k must lie between 1 and n_experts = {n_experts}, got {top_k}"
            raise ValueError(msg)
        self.top_k = top_k
        self.context = context
        self.router = nn.Linear(width, n_experts)
        nn.init.normal_(self.router.weight, std=0.02)  # not 0: ties are broken differently elsewhere
        nn.init.zeros_(self.router.bias)
        self.inner = nn.Parameter(_uniform(n_experts, width, hidden, fan_in=width))
        self.inner_bias = nn.Parameter(_uniform(n_experts, hidden, fan_in=width))
        self.outer = nn.Parameter(_uniform(n_experts, hidden, width, fan_in=hidden))
        self.outer_bias = nn.Parameter(_uniform(n_experts, width, fan_in=hidden))
        self.noise_weight = nn.Parameter(torch.zeros(width, n_experts)) if noise else None

    def forward(
        self,
        pooled: Tensor,  # (B, L, D)
        noise: Tensor | None = None,  # (B, E), standard normal
    ) -> Routed:
        """Choose experts and mix their outputs."""
        context = self.context(pooled)
        logits = self.router(context)
        if noise is not None and self.noise_weight is not None:
            logits = logits + noise * F.softplus(context @ self.noise_weight)
        weights = self.route(logits)
        hidden = F.gelu(torch.einsum("bd,edh->beh", context, self.inner) + self.inner_bias)
        outputs = torch.einsum("beh,ehd->bed", hidden, self.outer) + self.outer_bias
        return Routed((weights[..., None] * outputs).sum(1), logits, weights)

    def route(
        self,
        logits: Tensor,  # (B, E)
    ) -> Tensor:  # (B, E)
        """Compute the weights of the chosen experts by a softmax over them.

        For a single one that is 1 without a gradient for the router; then its softmax over all experts is used
        (Switch).
        """
        chosen, index = logits.topk(self.top_k, dim=-1)
        weights = chosen.softmax(-1) if self.top_k > 1 else logits.softmax(-1).gather(-1, index)
        return torch.zeros_like(logits).scatter(-1, index, weights)


def load_balance(routed: Routed) -> Tensor:
    """Compute the load balance loss over the batches of all processes: 1 for a uniform use of experts, else more.

    Source: Fedus et al. 2022 (Switch Transformers), eq. 4, with top-k shares.
    """
    each = torch.stack([(routed.weights > 0).float(), routed.logits.softmax(-1)])
    load, probability = (total / total.sum() for total in sum_over_processes(each.sum(1)))
    return len(load) * (load * probability).sum()


def _uniform(*shape: int, fan_in: int) -> Tensor:
    """Initialise as nn.Linear does."""
    return torch.empty(shape).uniform_(-(fan_in**-0.5), fan_in**-0.5)
