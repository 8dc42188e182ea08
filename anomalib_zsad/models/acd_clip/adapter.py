"""The modules of ACD-CLIP: adapters in both streams, heads and fusion gates (sections 2.1 and 2.2 of the paper)."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models.parts.class_prompts import ClassPrompts
from anomalib_zsad.models.parts.text_side import prompt_tokens

Variant = Literal["released", "paper"]
Grid = tuple[int, int]


class Lora(nn.Module):
    """Low-rank adapter: x W_down W_up * alpha / sqrt(rank).

    It is initialised as in the released code: W_down Kaiming-uniform over the rank, W_up zero. `Mixed` normalises the
    output, but the scale of the weights matters still: Adam's steps do not depend on it.

    Args:
        width: C, width of the stream.
        rank: Columns of W_down.
        alpha: Scale of the update.
    """

    def __init__(self, width: int, rank: int = 16, alpha: float = 2.0) -> None:
        super().__init__()
        self.down = _down(width, rank)
        self.up = nn.Parameter(torch.zeros(rank, width))
        self.scale = alpha / math.sqrt(rank)

    def forward(
        self,
        tokens: Tensor,  # (B, T, C)
        grid: Grid | None = None,  # noqa: ARG002  # a plain LoRA uses no neighbours
    ) -> Tensor:  # (B, T, C)
        """Compute the update of every token by itself."""
        return tokens @ self.down @ self.up * self.scale


class ConvLora(nn.Module):
    """Low-rank adapter with convolutions of several sizes over the grid of patches, eq. 1-3.

    It is linear. The projections up and the 1 x 1 convolution over the concatenated branches are one matrix from the
    rank to the width, so the wide branches of eq. 1 are not computed.

    Args:
        width: C, width of the stream.
        kernels: k, side of each branch's convolutions in patches, odd.
        rank: Columns of W_down.
        conv_rank: Channels between the two convolutions of a branch.
        alpha: Scale of the released update: alpha / conv_rank and alpha / sqrt(rank).
        variant: "paper" scales each convolution by 1 / k instead (eq. 2-3).
    """

    def __init__(
        self,
        width: int,
        kernels: Sequence[int] = (3, 5),
        rank: int = 16,
        conv_rank: int = 8,
        alpha: float = 2.0,
        variant: Variant = "released",
    ) -> None:
        super().__init__()
        released = alpha / conv_rank * alpha / math.sqrt(rank)
        scales = [released if variant == "released" else 1 / kernel**2 for kernel in kernels]
        self.branches: Any = nn.ModuleList(
            ConvBranch(width, kernel, rank, conv_rank, scale) for kernel, scale in zip(kernels, scales, strict=True)
        )
        self.fuse = nn.Conv2d(len(kernels) * width, width, kernel_size=1, bias=False)

    def forward(
        self,
        tokens: Tensor,  # (B, N, C)
        grid: Grid,
    ) -> Tensor:  # (B, N, C)
        """Compute the update of every patch from its neighbourhood."""
        down = torch.cat([branch.down for branch in self.branches], dim=1)
        planes = (tokens @ down).transpose(1, 2).unflatten(2, grid).chunk(len(self.branches), dim=1)
        convolved = [branch(plane) for branch, plane in zip(self.branches, planes, strict=True)]
        return torch.cat(convolved, dim=1).flatten(2).transpose(1, 2) @ self._up()

    def _up(self) -> Tensor:  # (branches * rank, C)
        fuse = self.fuse.weight[:, :, 0, 0].chunk(len(self.branches), dim=1)
        return torch.cat([branch.up @ part.T for branch, part in zip(self.branches, fuse, strict=True)])


class ConvBranch(nn.Module):
    """Two convolutions between W_down and W_up, which `ConvLora` applies for all branches together."""

    def __init__(self, width: int, kernel: int, rank: int, conv_rank: int, scale: float) -> None:
        super().__init__()
        self.down = _down(width, rank)
        self.conv_down = nn.Conv2d(rank, conv_rank, kernel, padding="same", bias=False)
        self.conv_up = nn.Conv2d(conv_rank, rank, kernel, padding="same", bias=False)
        self.up = nn.Parameter(torch.zeros(rank, width))
        self.scale = scale
        for conv in (self.conv_down, self.conv_up):
            nn.init.kaiming_uniform_(conv.weight)

    def forward(
        self,
        planes: Tensor,  # (B, rank, gh, gw)
    ) -> Tensor:  # (B, rank, gh, gw)
        """Convolve twice."""
        return self.conv_up(self.conv_down(planes)) * self.scale


class Mixed(nn.Module):
    """An adapter in a residual stream: x <- (1 - w) x + w a, a rescaled to the length of x token by token.

    Args:
        adapter: A `Lora` or `ConvLora`.
        width: C, width of the stream.
        weight: Initial w, which is learnt for every channel.
    """

    def __init__(self, adapter: nn.Module, width: int, weight: float = 0.2) -> None:
        super().__init__()
        self.adapter = adapter
        self.weight = nn.Parameter(torch.full((1, 1, width), weight))

    def forward(
        self,
        tokens: Tensor,  # (B, T, C)
        grid: Grid | None = None,
    ) -> Tensor:  # (B, T, C)
        """Replace the tokens."""
        adapted = F.normalize(self.adapter(tokens, grid), dim=-1) * tokens.norm(dim=-1, keepdim=True)
        return torch.lerp(tokens, adapted, self.weight)


class Head(nn.Module):
    """Projects patch tokens to unit-length tokens in the joint space."""

    def __init__(self, width: int, hidden: int, joint: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, joint)
        self.norm = nn.LayerNorm(joint)

    def forward(
        self,
        patches: Tensor,  # (B, N, C)
    ) -> Tensor:  # (B, N, D), unit length
        """Project the patches."""
        return F.normalize(self.norm(self.outer(F.leaky_relu(self.inner(patches)))), dim=-1)


class FusionGateway(nn.Module):
    """Mix the text features of all levels with weights from the mean patch, for each state, eq. 4-5."""

    def __init__(self, joint: int, hidden: int, n_groups: int) -> None:
        super().__init__()
        self.inner = nn.Linear(joint, hidden)
        self.outer = nn.Linear(hidden, 2 * n_groups)

    def forward(
        self,
        context: Tensor,  # (B, D)
        text: Tensor,  # (B or 1, G, D, S)
    ) -> Tensor:  # (B, D, S)
        """Compute the weighted sum of the levels."""
        weights = self.outer(F.gelu(self.inner(context))).unflatten(-1, (-1, 2)).softmax(1)  # (B, G, S)
        return (weights[:, :, None] * text).sum(1)


class VisionAdapter(nn.Module):
    """The trained part of the vision tower: in every group an adapter, two heads and a gate.

    Args:
        clip: The frozen CLIP.
        adapters: One `ConvLora` or `Lora` for each group, G of them.
        weight: Initial mixing weight.
        head_width: Hidden width of the heads.
        gate_width: Hidden width of the gates.
        variant: "paper" classifies with the last group only, so it has one detection head.
        dynamic_fusion: False for no gates: every group is compared with the text of its own level.
        checkpointing: Recompute the vision blocks in the backward pass instead of storing their intermediate results.
    """

    def __init__(
        self,
        clip: FrozenClip,
        adapters: Sequence[nn.Module],
        weight: float = 0.2,
        head_width: int = 256,
        gate_width: int = 256,
        variant: Variant = "released",
        dynamic_fusion: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        width, joint, n_groups = clip.vision_width, clip.text_width, len(adapters)
        n_detecting = n_groups if variant == "released" else 1
        n_gates = n_groups if dynamic_fusion else 0
        self.layers = group_ends(clip.n_blocks, n_groups)
        self.checkpointing = checkpointing
        self.mixed = nn.ModuleList(Mixed(adapter, width, weight) for adapter in adapters)
        self.segmentation = nn.ModuleList(Head(width, head_width, joint) for _ in range(n_groups))
        self.detection = nn.ModuleList(Head(width, head_width, joint) for _ in range(n_detecting))
        self.gates = nn.ModuleList(FusionGateway(joint, gate_width, n_groups) for _ in range(n_gates))

    def read(self, clip: FrozenClip, images: Tensor, layers: Sequence[int]) -> list[Tensor]:  # L x (B, 1 + N, C)
        """Read the taps of CLIP's vision stream with the adapters in it."""
        edit = partial(self.edit, grid=clip.grid_of(*images.shape[-2:]))
        return clip.encode_patches(images, layers, edit, self.checkpointing)

    def edit(self, block: int, stream: Tensor, grid: Grid) -> Tensor:  # (B, 1 + N, C)
        """Replace the patch tokens after the last block of a group; the class token is unchanged."""
        if block not in self.layers:
            return stream
        with torch.autocast(stream.device.type, enabled=False):
            stream = stream.float()
            patches = self.mixed[self.layers.index(block)](stream[:, 1:], grid)
            return torch.cat([stream[:, :1], patches], dim=1)

    def fuse(
        self,
        group: int,
        tokens: Tensor,  # (B, N, D) of that group
        text: Tensor,  # (B or 1, G, D, S)
    ) -> Tensor:  # (B or 1, D, S)
        """Mix the levels of text for a group, or return its own level."""
        return self.gates[group](tokens.mean(1), text) if self.gates else text[:, group]


class TextAdapter(nn.Module):
    """Prompts and the trained part of the text tower: in every group a LoRA and a layer norm.

    Args:
        clip: The frozen CLIP.
        adapters: One `Lora` for each group, G of them.
        prompts: The prompts of a class.
        weight: Initial mixing weight.
    """

    def __init__(
        self, clip: FrozenClip, adapters: Sequence[nn.Module], prompts: ClassPrompts, weight: float = 0.2
    ) -> None:
        super().__init__()
        self.prompts = prompts
        self.layers = group_ends(clip.n_text_blocks, len(adapters))
        self.mixed = nn.ModuleList(Mixed(adapter, clip.text_width, weight) for adapter in adapters)
        self.norms = nn.ModuleList(nn.LayerNorm(clip.text_width) for _ in adapters)

    def forward(
        self,
        clip: FrozenClip,
        names: Sequence[str],
    ) -> dict[str, Tensor]:  # each (G, D, S), unit length
        """Encode the prompts of classes at every level, averaged over each state."""
        prompts = [self.prompts.of(name) for name in names]
        tokens, end = prompt_tokens(clip, [text for states in prompts for state in states for text in state])
        taps = clip.encode_words(clip.embed_tokens(tokens), self.layers, self.edit)
        read = [tap[torch.arange(len(tap), device=tap.device), end] for tap in taps]
        levels = torch.stack([F.normalize(norm(x), dim=-1) for norm, x in zip(self.norms, read, strict=True)])
        counts = [len(state) for states in prompts for state in states]
        means = [F.normalize(state.mean(1), dim=-1) for state in levels.split(counts, dim=1)]  # each (G, D)
        return {name: torch.stack(means[2 * i : 2 * i + 2], dim=-1) for i, name in enumerate(names)}

    def edit(self, block: int, stream: Tensor) -> Tensor:  # (P, T, D)
        """Replace all tokens after the last block of a group."""
        return self.mixed[self.layers.index(block)](stream) if block in self.layers else stream


def group_ends(n_blocks: int, n_groups: int) -> list[int]:
    """Return the last block of every group, counted from 1."""
    return [n_blocks * group // n_groups for group in range(1, n_groups + 1)]


def _down(width: int, rank: int) -> nn.Parameter:
    return nn.Parameter(nn.init.kaiming_uniform_(torch.empty(width, rank)))  # its fan_in is the rank
