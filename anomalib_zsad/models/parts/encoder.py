"""The frozen backbone of a method: from images to the tokens of some layers and the grid of their patches."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models.parts.compiling import Compilable, whole_graph
from anomalib_zsad.models.parts.feature_cache import FeatureCache
from anomalib_zsad.models.parts.runtime import Runtime, TowerGraph

Precision = Literal["fp32", "bf16"]
Read = Callable[[FrozenClip, Tensor, Sequence[int]], list[Tensor]]
"""`read(clip, images, layers)` computes tokens of normalised images (B, 3, H, W), each tensor (B, 1 + N, width)."""


class Taps(NamedTuple):
    """The tokens of the layers, the class token first, and the rows and columns of the patches."""

    tokens: list[Tensor]  # L x (B, 1 + N, C) float32
    grid: tuple[int, int]


class Encoder(Compilable):
    """Reads the tokens of images from a frozen CLIP.

    Args:
        clip: The frozen CLIP.
        layers: Vision blocks whose tokens are read, counted from 1.
        precision: "bf16" runs CLIP in bfloat16; its outputs are float32.
        read: Computes the tokens; the default reads the residual stream. The fields of a dataclass are part of the
            `recipe`; a method of a trained module changes the features, so that they cannot be cached.

    Raises:
        ValueError: If the backbone has no such layer.
    """

    feature_cache: FeatureCache | None = None
    """The cache of features during training; None otherwise."""
    tower: TowerGraph | None = None
    """Computes the tokens outside of PyTorch, where no gradient passes them; None: PyTorch always does."""

    def __init__(
        self,
        clip: FrozenClip,
        layers: Sequence[int],
        precision: Precision = "fp32",
        read: Read = FrozenClip.encode_patches,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.layers = clip.check_layers(layers)
        self.precision: Precision = precision
        self.read = read

    def forward(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
    ) -> Taps:
        """Compute the tokens, or read them from the cache."""
        cache = self.feature_cache
        tokens = self._computed(images) if cache is None else cache(images, self._computed)
        return Taps(tokens, self.clip.grid_of(*images.shape[-2:]))

    @property
    def recipe(self) -> dict[str, Any]:
        """Everything but CLIP's weights that the features of an image depend on, as plain data."""
        reading: dict[str, Any] = asdict(cast("Any", self.read)) if is_dataclass(self.read) else {}
        if self.tower is not None:  # it rounds otherwise than PyTorch, and computes in float32
            reading |= {"precision": "fp32", "runtime": self.tower.runtime}
        return {"layers": self.layers, "precision": self.precision, **reading}

    def drop_text(self) -> None:
        """Remove the text tower, once all text is encoded."""
        self.clip = self.clip.without_text()

    def _computed(
        self,
        images: Tensor,  # (B, 3, H, W)
    ) -> list[Tensor]:  # L x (B, 1 + N, C) float32
        learnt = [] if self._reader is None else list(self._reader.parameters())
        if self.tower is None or (torch.is_grad_enabled() and any(each.requires_grad for each in learnt)):
            return self._read(images)
        size = (images.shape[-2], images.shape[-1])
        return self.tower(images, partial(_Tower, self, size), [next(self.clip.parameters()), *learnt])

    @property
    def _reader(self) -> nn.Module | None:
        """The trained module that reads the tokens, where one does."""
        reader = getattr(self.read, "__self__", None)
        return reader if isinstance(reader, nn.Module) else None

    @whole_graph
    def _read(
        self,
        images: Tensor,  # (B, 3, H, W)
    ) -> list[Tensor]:  # L x (B, 1 + N, C) float32
        device = images.device.type
        lowers = self.precision == "bf16" or torch.is_autocast_enabled(device)
        with torch.autocast(device, torch.bfloat16, enabled=lowers):
            return [tokens.float() for tokens in self.read(self.clip, images, self.layers)]


class _Tower(nn.Module):
    """What an encoder computes of images of one size, without the text tower; the weights are shared.

    The position embedding is resized beforehand: OpenVINO cannot resize with antialias.
    """

    def __init__(self, encoder: Encoder, size: tuple[int, int]) -> None:
        super().__init__()
        clip = encoder.clip
        self.clip = FrozenClip(clip.clip, size, clip.activation, clip.position_resize).without_text()
        self.reader = encoder._reader
        self.read, self.layers = encoder.read, encoder.layers

    def forward(
        self,
        images: Tensor,  # (B, 3, H, W)
    ) -> tuple[Tensor, ...]:  # L x (B, 1 + N, C)
        return tuple(self.read(self.clip, images, self.layers))


def run_towers(model: nn.Module, runtime: Runtime) -> None:
    """Let a runtime compute the tokens of all encoders of a model; "torch" changes nothing."""
    if runtime != "torch":
        for encoder in encoders_in(model):
            encoder.tower = TowerGraph(runtime)


def vv_start(layer: int | None, clip: FrozenClip) -> int:
    """Name the block from which on V-V attention gathers a second stream; None: the last of the first quarter.

    Raises:
        ValueError: If the backbone has no such block.
    """
    if layer is None:
        return clip.quarters()[0]
    if not 1 <= layer <= clip.n_blocks:
        msg = f"choices.vv_start_layer must name a block from 1 to {clip.n_blocks} of this backbone, got {layer}"
        raise ValueError(msg)
    return layer


def encoders_in(model: nn.Module) -> list[Encoder]:
    """List the encoders of a model: one for a method, one for each member of an ensemble."""
    return [part for part in model.modules() if isinstance(part, Encoder)]
