"""What AF-CLIP computes: taps of a frozen CLIP, one adaptor, cosines with two learnt prompts."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.functional.scoring import smooth_upsample
from anomalib_zsad.models.af_clip.adapter import Adaptor, JointTokens, PlainTokens, StatePrompts, WindowAggregation
from anomalib_zsad.models.parts.feature_cache import cacheable
from anomalib_zsad.models.parts.memory import MemoryBank

Precision = Literal["fp32", "bf16"]
Scores = tuple[Tensor, Tensor]
"""Image scores (B,) and maps (B, gh, gw), both in [0, 1]."""


class Logits(NamedTuple):
    """What training and scoring start from."""

    image: Tensor  # (B, S) of the class token
    patches: Tensor  # (B, gh, gw, S)
    tokens: list[JointTokens] | list[PlainTokens]  # L x (R, B, 1 + N, D)


class AFClipModel(nn.Module):
    """AF-CLIP and, once it remembers normal images, AF-CLIP+: normalised images in, scores in [0, 1] out.

    Source: "AF-CLIP: Zero-Shot Anomaly Detection via Anomaly-Focused CLIP Adaptation" (arXiv 2507.19949), eq. 3-12 and
    16-18.

    Args:
        clip: The frozen CLIP.
        adaptor: Eq. 3-4; None compares the tokens of CLIP themselves.
        prompts: Eq. 8.
        aggregate: Eq. 5-6.
        layers: Vision blocks whose tokens are used, counted from 1.
        temperature: Divides every cosine.
        blur_sigma: Standard deviation in pixels of the blur of the final map.
        alpha: Weight of the zero-shot scores beside those of the memory (eq. 18).
        precision: "bf16" runs the frozen backbone in bfloat16; what learns stays in float32.
        tuning: What tunes the vision tower itself and computes its taps (`tuning_of`). None leaves it alone.
    """

    encoding: ClassVar = ("layers", "precision")
    folded_text: Tensor | None

    def __init__(
        self,
        clip: FrozenClip,
        adaptor: Adaptor | None,
        prompts: StatePrompts,
        aggregate: WindowAggregation,
        layers: Sequence[int],
        temperature: float = 0.07,
        blur_sigma: float = 4.0,
        alpha: float = 0.1,
        precision: Precision = "fp32",
        tuning: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.tuning = tuning
        self.adaptor = adaptor
        self.prompts = prompts
        self.aggregate = aggregate
        self.memory = MemoryBank()
        self.layers = clip.check_layers(layers)
        self.temperature = temperature
        self.blur_sigma = blur_sigma
        self.alpha = alpha
        self.precision = precision
        self.register_buffer("folded_text", None, persistent=False)
        self._text: tuple[tuple[int, torch.device], Tensor] | None = None

    def forward(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
    ) -> InferenceBatch:
        """Score images: `pred_score` (B,) and `anomaly_map` (B, 1, H, W), both in [0, 1]."""
        grid = self.clip.grid_of(*images.shape[-2:])
        taps = self.encode(images)
        score, maps = self._scores(taps, grid)
        maps = smooth_upsample(maps, (images.shape[-2], images.shape[-1]), self.blur_sigma)
        # Rounding of the two matrix products must not leave [0, 1].
        return InferenceBatch(pred_score=score, anomaly_map=maps.clamp(0, 1)[:, None])

    def logits(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
    ) -> Logits:
        """Compare images with both prompts."""
        return self.compare(self.encode(images), self.clip.grid_of(*images.shape[-2:]))

    @cacheable
    def encode(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
    ) -> list[Tensor]:  # L x (B, 1 + N, C) float32
        """Read the taps of the backbone."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._autocasts(images)):
            read = self.clip.encode_patches if self.tuning is None else partial(self.tuning, self.clip)
            return [tap.float() for tap in read(images, self.layers)]

    def compare(
        self,
        taps: list[Tensor],  # L x (B, 1 + N, C)
        grid: tuple[int, int],
    ) -> Logits:
        """Compare the tokens of every layer and window with both prompts, eq. 9."""
        with torch.autocast(taps[0].device.type, enabled=False):
            text = self.text_features()
            tokens = self._project(taps, grid)
            total = torch.stack([each.cosines(text).sum(0) for each in tokens]).sum(0) / self.temperature
        return Logits(total[:, 0], total[:, 1:].unflatten(1, grid), tokens)

    @staticmethod
    def score(logits: Logits) -> Scores:
        """Turn logits into probabilities of the anomalous state, eq. 10 and 12."""
        return logits.image.softmax(-1)[:, 1], logits.patches.softmax(-1)[..., 1]

    @torch.no_grad()
    def remember(
        self,
        images: Iterable[Tensor],  # of (1, 3, H, W), normalised
        coreset_ratio: float | None = None,
    ) -> None:
        """Fill the memory with the aggregated patches of normal images, before the adaptor, eq. 16."""
        with torch.inference_mode(mode=False):
            sets = (self._patches(self.encode(image), self.clip.grid_of(*image.shape[-2:])) for image in images)
            self.memory.fill((each.squeeze(1) for each in sets), coreset_ratio)

    def recall(
        self,
        taps: list[Tensor],  # L x (B, 1 + N, C)
        grid: tuple[int, int],
    ) -> Scores:
        """Compare patches with the memory, eq. 17; the image's score is its largest patch's."""
        with torch.autocast(taps[0].device.type, enabled=False):
            maps = self.memory(self._patches(taps, grid))
        return maps.amax(-1), maps.unflatten(1, grid)

    def text_features(self) -> Tensor:  # (S, D), unit length
        """Encode the prompts; without gradients once for every state of the prompts."""
        if self.folded_text is not None:
            return self.folded_text
        if torch.is_grad_enabled() and self.prompts.vectors.requires_grad:
            return self.prompts(self.clip)
        state = (self.prompts.vectors._version, self.prompts.vectors.device)
        if self._text is None or self._text[0] != state:
            with torch.inference_mode(mode=False), torch.no_grad():
                self._text = (state, self.prompts(self.clip))
        return self._text[1]

    def fold_text(self) -> None:
        """Keep the encoded prompts without what encodes them, for export: they do not depend on the image."""
        self.folded_text = self.prompts(self.clip)
        self.clip = self.clip.without_text()

    def _scores(
        self,
        taps: list[Tensor],  # L x (B, 1 + N, C)
        grid: tuple[int, int],
    ) -> Scores:
        """Score with the prompts, with the memory, or with both, eq. 18, divided by its bound so that 1 is the most."""
        if self.memory.is_empty:
            return self.score(self.compare(taps, grid))
        memory = self.recall(taps, grid)
        if not self.alpha:
            return memory
        zero_shot = self.score(self.compare(taps, grid))
        score, maps = ((m + self.alpha * z) / (1 + self.alpha) for m, z in zip(memory, zero_shot, strict=True))
        return score, maps

    def _project(
        self,
        taps: list[Tensor],  # L x (B, 1 + N, C)
        grid: tuple[int, int],
    ) -> list[JointTokens] | list[PlainTokens]:
        if self.adaptor is None:
            return [PlainTokens.of(self.aggregate(tap, grid), self.clip) for tap in taps]
        inner = (self.adaptor(tap, grid, self.aggregate) for tap in taps)
        return [JointTokens.of(each, self.adaptor.to_out, self.clip) for each in inner]

    def _patches(
        self,
        taps: list[Tensor],  # L x (B, 1 + N, C)
        grid: tuple[int, int],
    ) -> Tensor:  # (L R, B, N, C)
        return torch.cat([self.aggregate(tap, grid)[:, :, 1:] for tap in taps])

    def _autocasts(self, images: Tensor) -> bool:
        return self.precision == "bf16" or torch.is_autocast_enabled(images.device.type)
