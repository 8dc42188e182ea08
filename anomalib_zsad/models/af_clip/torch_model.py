"""The torch model of AF-CLIP: taps of a frozen CLIP, one adaptor, cosines with two learnt prompts."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_zsad.functional.scoring import probability
from anomalib_zsad.models.af_clip.adapter import Adaptor, JointTokens, PlainTokens, StatePrompts, WindowAggregation
from anomalib_zsad.models.parts.compiling import whole_graph
from anomalib_zsad.models.parts.encoder import Encoder, Taps
from anomalib_zsad.models.parts.heads import ScoreHead
from anomalib_zsad.models.parts.memory import MemoryBank
from anomalib_zsad.models.parts.text_side import TextSide
from anomalib_zsad.models.parts.tiling import Tileable, views_of


class Logits(NamedTuple):
    """The input of the losses and of scoring; if only the memory scores, `distances` alone is filled."""

    image: Tensor  # (B, S) of the class token
    patches: Tensor  # (B, gh, gw, S)
    tokens: list[JointTokens] | list[PlainTokens]  # L x (R, B, 1 + N, D)
    distances: Tensor | None = None  # (B, gh, gw) in [0, 1], from the memory; None without one


class AFClipModel(Tileable):
    """AF-CLIP and, with normal images in its memory, AF-CLIP+: normalised images in, scores in [0, 1] out.

    Source: "AF-CLIP: Zero-Shot Anomaly Detection via Anomaly-Focused CLIP Adaptation" (arXiv 2507.19949), eq. 3-12 and
    16-18.

    Args:
        encoder: The frozen CLIP and its layers.
        adaptor: Eq. 3-4; None compares the tokens of CLIP themselves.
        prompts: Eq. 8.
        aggregate: Eq. 5-6.
        head: The blur of the final map.
        temperature: Divides every cosine.
        alpha: Weight of the zero-shot scores, relative to those of the memory (eq. 18).
        tuning: Tunes the vision tower, whose tokens the encoder reads. None: the tower is unchanged.
    """

    def __init__(
        self,
        encoder: Encoder,
        adaptor: Adaptor | None,
        prompts: StatePrompts,
        aggregate: WindowAggregation,
        head: ScoreHead,
        temperature: float = 0.07,
        alpha: float = 0.1,
        tuning: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.tuning = tuning
        self.adaptor = adaptor
        self.prompts = prompts
        self.text = TextSide()
        self.aggregate = aggregate
        self.memory = MemoryBank()
        self.head = head
        self.temperature = temperature
        self.alpha = alpha

    def logits(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
    ) -> Logits:
        """Compare images with both prompts, and with the memory unless it is empty."""
        taps = self.encoder(images)
        if self.memory.is_empty:
            return self.compare(taps, self.text_features()[None])
        distances = self.recall(taps)
        if not self.alpha:
            nothing = distances.new_empty(0)
            return Logits(nothing, nothing, [], distances)
        return self.compare(taps, self.text_features()[None])._replace(distances=distances)

    @whole_graph
    def compare(
        self,
        taps: Taps,  # L x (B, 1 + N, C), from the encoder
        text: Tensor,  # (1, S, D), unit length
    ) -> Logits:
        """Compare the tokens of every layer and window with both prompts, eq. 9."""
        with torch.autocast(text.device.type, enabled=False):
            tokens = self._project(taps)
            total = torch.stack([each.cosines(text[0]).sum(0) for each in tokens]).sum(0) / self.temperature
        return Logits(total[:, 0], total[:, 1:].unflatten(1, taps.grid), tokens)

    @whole_graph
    def recall(self, taps: Taps) -> Tensor:  # (B, gh, gw) in [0, 1]
        """Compute the distances of patches from the memory, eq. 17."""
        with torch.autocast(taps.tokens[0].device.type, enabled=False):
            return self.memory(self._patches(taps)).unflatten(1, taps.grid)

    @whole_graph
    def score(self, logits: Logits, size: tuple[int, int]) -> InferenceBatch:
        """Turn logits into scores of the image and of its pixels, eq. 10, 12 and 18."""
        return self.head(*self.join(logits), size)

    def join(self, logits: Logits) -> tuple[Tensor, Tensor]:  # (B,) and (B, gh, gw), in [0, 1]
        """Compute the probabilities of the anomalous state, and add the distances from the memory, eq. 18.

        The sum is divided by 1 + alpha to stay in [0, 1]. The memory's score of an image is its largest distance.
        """
        if logits.distances is None:
            return probability(logits.image), probability(logits.patches)
        image, patches = logits.distances.amax((-2, -1)), logits.distances
        if not self.alpha:
            return image, patches
        image = image + self.alpha * probability(logits.image)
        patches = patches + self.alpha * probability(logits.patches)
        return image / (1 + self.alpha), patches / (1 + self.alpha)

    @torch.no_grad()
    def remember(
        self,
        images: Iterable[Tensor],  # of (1, 3, H, W), normalised
        coreset_ratio: float | None = None,
    ) -> None:
        """Fill the memory with the aggregated patches of normal images, before the adaptor, eq. 16.

        Of images that are tiled it holds those of the whole picture and of all tiles.
        """
        with torch.inference_mode(False):
            views = (view for image in images for view in views_of(image, self.tiler))
            patches = (self._patches(self.encoder(view)).squeeze(1) for view in views)
            self.memory.fill(patches, coreset_ratio)

    def text_features(self) -> Tensor:  # (S, D), unit length
        """Encode the prompts; without gradients they are cached until the prompts change."""
        return self.text(self.prompts, self.encoder.clip)

    def fold_text(self) -> None:
        """Replace prompts and text tower by the encoded prompts, for export: they do not depend on the image."""
        self.text.fold(self.prompts, self.encoder.clip)
        self.encoder.drop_text()

    def _project(self, taps: Taps) -> list[JointTokens] | list[PlainTokens]:
        clip = self.encoder.clip
        if self.adaptor is None:
            return [PlainTokens.of(self.aggregate(tokens, taps.grid), clip) for tokens in taps.tokens]
        inner = (self.adaptor(tokens, taps.grid, self.aggregate) for tokens in taps.tokens)
        if clip.linear_head is None:
            return [PlainTokens.of(self.adaptor.to_out(each), clip) for each in inner]
        return [JointTokens.of(each, self.adaptor.to_out, clip.linear_head) for each in inner]

    def _patches(self, taps: Taps) -> Tensor:  # (L R, B, N, C)
        return torch.cat([self.aggregate(tokens, taps.grid)[:, :, 1:] for tokens in taps.tokens])
