"""The frozen backbone of a method: from images to the tokens of some layers and the grid of their patches."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models.parts.compiling import Compilable, whole_graph
from anomalib_zsad.models.parts.feature_cache import FeatureCache

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
        tokens = self._read(images) if cache is None else cache(images, self._read)
        return Taps(tokens, self.clip.grid_of(*images.shape[-2:]))

    @property
    def recipe(self) -> dict[str, Any]:
        """Everything but CLIP's weights that the features of an image depend on, as plain data."""
        reading: dict[str, Any] = asdict(cast("Any", self.read)) if is_dataclass(self.read) else {}
        return {"layers": self.layers, "precision": self.precision, **reading}

    def drop_text(self) -> None:
        """Remove the text tower, once all text is encoded."""
        self.clip = self.clip.without_text()

    @whole_graph
    def _read(
        self,
        images: Tensor,  # (B, 3, H, W)
    ) -> list[Tensor]:  # L x (B, 1 + N, C) float32
        device = images.device.type
        lowers = self.precision == "bf16" or torch.is_autocast_enabled(device)
        with torch.autocast(device, torch.bfloat16, enabled=lowers):
            return [tokens.float() for tokens in self.read(self.clip, images, self.layers)]


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
