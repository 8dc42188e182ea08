"""The torch model of ACD-CLIP: CLIP with adapters in both towers, patches compared with text fused for each group."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import Tensor
from torch.nn import functional as F

from anomalib_zsad.data.names import Domain
from anomalib_zsad.functional.scoring import blur_then_upsample, log_odds, probability
from anomalib_zsad.models.acd_clip.adapter import TextAdapter, Variant, VisionAdapter
from anomalib_zsad.models.parts.compiling import whole_graph
from anomalib_zsad.models.parts.encoder import Encoder, Taps
from anomalib_zsad.models.parts.text_side import TextSide
from anomalib_zsad.models.parts.tiling import Tileable


@dataclass(frozen=True)
class Scoring:
    """The settings of test-time scores.

    Args:
        class_weight: Weight of the class probability in the image score; the rest is the weight of the map's maximum.
        blur_size: Side of the Gaussian window over the logit maps in patches, odd; 1 for no blur.
        blur_sigma: Standard deviation of that window in patches.
    """

    class_weight: float
    blur_size: int
    blur_sigma: float


SCORING: dict[Domain, Scoring] = {
    "industrial": Scoring(class_weight=0.9, blur_size=7, blur_sigma=1.0),
    "medical": Scoring(class_weight=0.5, blur_size=9, blur_sigma=1.5),
}


class Logits(NamedTuple):
    """The input of the losses and of scoring."""

    image: Tensor  # (B, S)
    patches: Tensor  # (B, G, gh, gw, S), one map for each group


class ACDClipModel(Tileable):
    """ACD-CLIP: normalised images and the names of their classes in, scores in [0, 1] out.

    Source: "ACD-CLIP: Decoupling Representation and Dynamic Fusion for Zero-Shot Anomaly Detection", eq. 1-6.

    Args:
        encoder: The frozen CLIP, read with the adapters of `vision` in its stream.
        vision: Adapters in the vision stream, heads and gates.
        text: Adapters in the text stream, and the prompts of a class.
        class_name: The class of images whose class is not given.
        variant: "released", the computation of the published results: dot products with the fused text, the mean of all
            groups' logit maps and then the softmax, class logits of all groups. "paper", eq. 6: cosines with the fused
            text, a softmax in every group and then the mean of the maps, and for the class the cosine of the last
            group's mean token.
        temperature: Divides the similarities of patches (tau of eq. 6).
        scoring: The settings of test-time scores.
    """

    def __init__(
        self,
        encoder: Encoder,
        vision: VisionAdapter,
        text: TextAdapter,
        class_name: str,
        variant: Variant = "released",
        temperature: float = 0.1,
        scoring: Scoring = SCORING["industrial"],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.vision = vision
        self.text = text
        self.text_side = TextSide(class_name)
        self.variant = variant
        self.temperature = temperature
        self.scoring = scoring

    def logits(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
        class_names: Sequence[str] | None = None,  # B
    ) -> Logits:
        """Compare images and their patches with the text of their classes."""
        return self.compare(self.encoder(images), self.text_features(class_names))

    @whole_graph
    def compare(
        self,
        taps: Taps,  # G x (B, 1 + N, C), from the encoder
        text: Tensor,  # (B or 1, G, D, S), unit length
    ) -> Logits:
        """Compare the patches of every group, and the image, with the text of their classes."""
        patches = [each[:, 1:] for each in taps.tokens]
        with torch.autocast(text.device.type, enabled=False):
            maps = [self._compare(group, each, text).unflatten(1, taps.grid) for group, each in enumerate(patches)]
            return Logits(self._classify(patches, text), torch.stack(maps, dim=1))

    @whole_graph
    def score(self, logits: Logits, size: tuple[int, int]) -> InferenceBatch:
        """Blur and average the logit maps, and combine the map's maximum with the class probability."""
        maps = self.anomaly_map(logits, size, self.scoring.blur_size, self.scoring.blur_sigma)
        score = torch.lerp(maps.amax(dim=(-2, -1)), probability(logits.image), self.scoring.class_weight)
        return InferenceBatch(pred_score=score, anomaly_map=maps[:, None])

    @whole_graph
    def anomaly_map(
        self,
        logits: Logits,
        size: tuple[int, int],
        blur_size: int = 1,
        blur_sigma: float = 1.0,
    ) -> Tensor:  # (B, H, W)
        """Combine the groups' maps to the probability of the anomalous state of every pixel.

        The softmax over two states is the sigmoid of their difference; blur, upsampling and mean are linear and applied
        to that difference.
        """
        difference = log_odds(logits.patches)
        with torch.autocast(difference.device.type, enabled=False):
            if self.variant == "released":
                return blur_then_upsample(difference.mean(1), size, blur_size, blur_sigma).sigmoid()
            maps = blur_then_upsample(difference.sigmoid().mean(1), size, blur_size, blur_sigma)
            return maps.clamp(0, 1)  # rounding of the matrix products must not leave [0, 1]

    def text_features(
        self,
        class_names: Sequence[str] | None = None,  # B
    ) -> Tensor:  # (B, G, D, S), unit length; (1, G, D, S) where all images have the default class
        """Encode the prompts of the classes; without gradients they are cached until the adapter changes."""
        return self.text_side(self.text, self.encoder.clip, class_names)

    def fold_text(self) -> None:
        """Replace the text tower by the features of the default class, for export."""
        self.text_side.fold(self.text, self.encoder.clip)
        self.encoder.drop_text()

    def _compare(
        self,
        group: int,
        patches: Tensor,  # (B, N, C)
        text: Tensor,  # (B or 1, G, D, S)
    ) -> Tensor:  # (B, N, S)
        tokens = self.vision.segmentation[group](patches)
        fused = self.vision.fuse(group, tokens, text)
        fused = F.normalize(fused, dim=1) if self.variant == "paper" else fused
        return tokens @ fused / self.temperature

    def _classify(
        self,
        patches: list[Tensor],  # G x (B, N, C)
        text: Tensor,  # (B or 1, G, D, S)
    ) -> Tensor:  # (B, S)
        heads = self.vision.detection
        means = [head(each).mean(1) for head, each in zip(heads, patches[-len(heads) :], strict=True)]
        tokens = torch.stack(means, dim=1)  # (B, heads, D), shorter than 1
        tokens = F.normalize(tokens, dim=-1) if self.variant == "paper" else tokens
        return (tokens[..., None] * text[:, -len(heads) :]).sum(2).mean(1)
