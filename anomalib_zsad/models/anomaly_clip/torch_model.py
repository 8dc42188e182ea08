"""What AnomalyCLIP computes: cosines of patches and of the class token with two learnt prompts."""

from typing import NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import Tensor

from anomalib_zsad.functional.scoring import cosines, probability, smooth_upsample
from anomalib_zsad.models.anomaly_clip.adapter import ObjectPrompts
from anomalib_zsad.models.parts.compiling import whole_graph
from anomalib_zsad.models.parts.encoder import Encoder, Taps
from anomalib_zsad.models.parts.heads import ScoreHead
from anomalib_zsad.models.parts.text_side import TextSide
from anomalib_zsad.models.parts.tiling import Tileable


class Logits(NamedTuple):
    """What training and scoring start from."""

    image: Tensor  # (B, S) of the class token
    patches: Tensor  # (B, L, gh, gw, S), one map for each layer


class AnomalyClipModel(Tileable):
    """AnomalyCLIP: normalised images in, scores in [0, 1] out.

    Source: "AnomalyCLIP: Object-agnostic Prompt Learning for Zero-shot Anomaly Detection" (arXiv 2310.18961), eq. 1 and
    the maps of section 3.3.

    Args:
        encoder: The frozen CLIP, read as `JointTokens` does.
        prompts: Section 3.2 and eq. 3.
        head: The blur of the final map.
        temperature: Divides every cosine.
    """

    def __init__(self, encoder: Encoder, prompts: ObjectPrompts, head: ScoreHead, temperature: float = 0.07) -> None:
        super().__init__()
        self.encoder = encoder
        self.prompts = prompts
        self.text = TextSide()
        self.head = head
        self.temperature = temperature

    def logits(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
    ) -> Logits:
        """Compare images with both prompts."""
        return self.compare(self.encoder(images), self.text_features()[None])

    @whole_graph
    def compare(
        self,
        taps: Taps,  # L x (B, 1 + N, D), from the encoder
        text: Tensor,  # (1, S, D), unit length
    ) -> Logits:
        """Compare the class token and the patches of every layer with both prompts, eq. 1."""
        with torch.autocast(text.device.type, enabled=False):
            similar = torch.stack([cosines(tokens, text) for tokens in taps.tokens], dim=1) / self.temperature
        return Logits(similar[:, 0, 0], similar[:, :, 1:].unflatten(2, taps.grid))

    @whole_graph
    def score(self, logits: Logits, size: tuple[int, int]) -> InferenceBatch:
        """Turn logits into scores of the image and of its pixels; the mean over the layers, so that 1 is the most."""
        return self.head(probability(logits.image), probability(logits.patches).mean(1), size)

    @whole_graph
    def training_maps(self, logits: Logits, size: tuple[int, int]) -> Tensor:  # (L, B, H, W)
        """Bring the map of every layer to the size of the masks, without blur."""
        with torch.autocast(logits.patches.device.type, enabled=False):
            return smooth_upsample(probability(logits.patches.transpose(0, 1)), size, sigma=0)

    def text_features(self) -> Tensor:  # (S, D), unit length
        """Encode the prompts; without gradients once for every state of the prompts."""
        return self.text(self.prompts, self.encoder.clip)

    def fold_text(self) -> None:
        """Keep the encoded prompts without what encodes them, for export: they do not depend on the image."""
        self.text.fold(self.prompts, self.encoder.clip)
        self.encoder.drop_text()
