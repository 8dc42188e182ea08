"""Zero-shot CLIP without training: cosines of an image and its patches with prompts of both states."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.functional.scoring import cosines, probability
from anomalib_zsad.models.parts.class_prompts import ClassPrompts
from anomalib_zsad.models.parts.compiling import whole_graph
from anomalib_zsad.models.parts.encoder import Encoder, Taps
from anomalib_zsad.models.parts.heads import ScoreHead
from anomalib_zsad.models.parts.text_side import TextSide, encode_sentences
from anomalib_zsad.models.parts.tiling import Tileable


class Logits(NamedTuple):
    """The input of scoring."""

    image: Tensor  # (B, S)
    patches: Tensor  # (B, gh, gw, S)


class MeanPrompts(nn.Module):
    """The mean of the directions of the prompts of each state.

    Args:
        texts: The prompts.
    """

    def __init__(self, texts: ClassPrompts) -> None:
        super().__init__()
        self.texts = texts

    def forward(
        self,
        clip: FrozenClip,
        names: Sequence[str],
    ) -> dict[str, Tensor]:  # each (S, D)
        """Encode the prompts of classes."""
        return {
            name: torch.stack(
                [F.normalize(encode_sentences(clip, state), dim=-1).mean(0) for state in self.texts.of(name)]
            )
            for name in names
        }


class ClipZeroShotModel(Tileable):
    """Normalised images and the names of their classes in, scores in [0, 1] out.

    The score comes from the feature of the image, the map from the patches of the last block by the same head.

    Args:
        encoder: The frozen CLIP, read after its last block.
        prompts: The prompts of both states.
        class_name: The class of images whose class is not given.
        head: The blur of the map.
        temperature: Divides every cosine.
    """

    def __init__(
        self,
        encoder: Encoder,
        prompts: MeanPrompts,
        class_name: str,
        head: ScoreHead,
        temperature: float = 0.01,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.prompts = prompts
        self.text = TextSide(class_name)
        self.head = head
        self.temperature = temperature

    def logits(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
        class_names: Sequence[str] | None = None,  # B
    ) -> Logits:
        """Compare images and their patches with the text of their classes."""
        return self.compare(self.encoder(images), self.text(self.prompts, self.encoder.clip, class_names))

    @whole_graph
    def compare(
        self,
        taps: Taps,  # (B, 1 + N, C) of the last block, from the encoder
        text: Tensor,  # (B or 1, S, D)
    ) -> Logits:
        """Compare the feature of the image and its patches with the text of their classes."""
        with torch.autocast(text.device.type, enabled=False):
            similar = cosines(self.encoder.clip.project_with_image(taps.tokens[0]), text) / self.temperature
        return Logits(similar[:, 0], similar[:, 1:].unflatten(1, taps.grid))

    @whole_graph
    def score(self, logits: Logits, size: tuple[int, int]) -> InferenceBatch:
        """Compute scores of images and pixels from logits."""
        return self.head(probability(logits.image), probability(logits.patches), size)

    def fold_text(self) -> None:
        """Replace the text tower by the features of the default class, for export."""
        self.text.fold(self.prompts, self.encoder.clip)
        self.encoder.drop_text()
