"""What ACD-CLIP computes: CLIP with adapters in both towers, patches compared with text fused for each group."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.data.item import ANY_CATEGORY
from anomalib_zsad.data.names import Domain
from anomalib_zsad.functional.scoring import blur_then_upsample
from anomalib_zsad.models.acd_clip.adapter import TextAdapter, Variant, VisionAdapter
from anomalib_zsad.models.acd_clip.prompts import ClassPrompts
from anomalib_zsad.models.parts.class_text import ClassText

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Scoring:
    """How scores are made at test time.

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
    """What training and scoring start from."""

    image: Tensor  # (B, S)
    patches: Tensor  # (B, G, gh, gw, S), one map a group


class ACDClipModel(nn.Module):
    """ACD-CLIP: normalised images and the names of their classes in, scores in [0, 1] out.

    Source: "ACD-CLIP: Decoupling Representation and Dynamic Fusion for Zero-Shot Anomaly Detection", eq. 1-6.

    Args:
        clip: The frozen CLIP.
        vision: Adapters in the vision stream, heads and gates.
        text: Adapters in the text stream.
        prompts: The texts about a class.
        variant: "released" computes what the published results were made with: dot products with the fused text, the
            mean of all groups' logit maps and then the softmax, class logits of all groups. "paper" is eq. 6: cosines
            with the fused text, a softmax in every group and then the mean of the maps, and for the class the cosine of
            the last group's mean token.
        temperature: Divides the similarities of patches (tau of eq. 6).
        scoring: How scores are made.
        class_name: The class of images that come without one.
        precision: "bf16" runs the frozen vision tower in bfloat16; what learns stays in float32.
        gradient_checkpointing: Compute the vision blocks again during the backward pass instead of keeping their
            intermediate results.
    """

    folded_text: Tensor | None

    def __init__(
        self,
        clip: FrozenClip,
        vision: VisionAdapter,
        text: TextAdapter,
        prompts: ClassPrompts,
        variant: Variant = "released",
        temperature: float = 0.1,
        scoring: Scoring = SCORING["industrial"],
        class_name: str = ANY_CATEGORY,
        precision: Precision = "fp32",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.vision = vision
        self.text = text
        self.prompts = prompts
        self.variant = variant
        self.temperature = temperature
        self.scoring = scoring
        self.class_name = class_name
        self.precision = precision
        self.gradient_checkpointing = gradient_checkpointing
        self.register_buffer("folded_text", None, persistent=False)
        self._class_text = ClassText()

    def forward(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
        class_names: Sequence[str] | None = None,  # B
    ) -> InferenceBatch:
        """Score images: `pred_score` (B,) and `anomaly_map` (B, 1, H, W), both in [0, 1]."""
        return self.score(self.logits(images, class_names), size=(images.shape[-2], images.shape[-1]))

    def logits(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
        class_names: Sequence[str] | None = None,  # B
    ) -> Logits:
        """Compare images and their patches with what the text tower says of their classes."""
        grid = self.clip.grid_of(*images.shape[-2:])
        patches = self.encode(images)
        with torch.autocast(images.device.type, enabled=False):
            text = self.text_features(class_names)
            maps = [self._compare(group, tokens, text).unflatten(1, grid) for group, tokens in enumerate(patches)]
            return Logits(self._classify(patches, text), torch.stack(maps, dim=1))

    def encode(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
    ) -> list[Tensor]:  # G x (B, N, C) float32
        """Read the adapted patch tokens at the end of every group."""
        grid = self.clip.grid_of(*images.shape[-2:])
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._autocasts(images)):
            taps = self.clip.encode_patches(
                images,
                self.vision.layers,
                edit=lambda block, stream: self.vision.edit(block, stream, grid),
                checkpointing=self.gradient_checkpointing,
            )
        return [tap[:, 1:].float() for tap in taps]

    def score(self, logits: Logits, size: tuple[int, int]) -> InferenceBatch:
        """Blur the logit maps, turn them into one map of the image's size, and join its maximum and the class."""
        maps = self.anomaly_map(logits, size, self.scoring.blur_size, self.scoring.blur_sigma)
        anomalous = logits.image.softmax(-1)[:, 1]
        score = torch.lerp(maps.amax(dim=(-2, -1)), anomalous, self.scoring.class_weight)
        return InferenceBatch(pred_score=score, anomaly_map=maps[:, None])

    def anomaly_map(
        self,
        logits: Logits,
        size: tuple[int, int],
        blur_size: int = 1,
        blur_sigma: float = 1.0,
    ) -> Tensor:  # (B, H, W)
        """Join the groups' maps to the probability of the anomalous state for every pixel.

        The softmax over two states is the sigmoid of their difference; blur, upsampling and mean are linear, so they
        are taken of the difference.
        """
        difference = logits.patches[..., 1] - logits.patches[..., 0]
        with torch.autocast(difference.device.type, enabled=False):
            if self.variant == "released":
                return blur_then_upsample(difference.mean(1), size, blur_size, blur_sigma).sigmoid()
            maps = blur_then_upsample(difference.sigmoid().mean(1), size, blur_size, blur_sigma)
            return maps.clamp(0, 1)  # rounding of the matrix products must not leave [0, 1]

    def text_features(
        self,
        class_names: Sequence[str] | None = None,  # B
    ) -> Tensor:  # (B, G, D, S), unit length; (1, G, D, S) where all images have the default class
        """Encode what is said of the classes; without gradients once for every class and state of the adapter."""
        if self.folded_text is not None:
            return self.folded_text
        names = list(class_names) if class_names else [self.class_name]
        return self._class_text.of(names, list(self.text.parameters()), self._encode_classes)

    def fold_text(self) -> None:
        """Keep what is said of the default class without what encodes it, for export: no image changes it."""
        self.folded_text = self.text_features()
        self.clip = self.clip.without_text()

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

    def _encode_classes(self, names: Sequence[str]) -> dict[str, Tensor]:  # each (G, D, S)
        prompts = [self.prompts.of(name) for name in names]
        tokens = self.clip.tokenize([text for states in prompts for state in states for text in state])
        tokens = tokens.to(self.clip.projection.device)
        end = tokens.argmax(dim=-1)  # the end-of-text token has the highest number
        words = self.clip.embed_tokens(tokens[:, : int(end.max()) + 1])
        taps = self.clip.encode_words(words, self.text.layers, self.text.edit)
        read = [tap[torch.arange(len(tap), device=tap.device), end] for tap in taps]
        levels = torch.stack([F.normalize(norm(x), dim=-1) for norm, x in zip(self.text.norms, read, strict=True)])
        counts = [len(state) for states in prompts for state in states]
        means = [F.normalize(state.mean(1), dim=-1) for state in levels.split(counts, dim=1)]  # each (G, D)
        return {name: torch.stack(means[2 * i : 2 * i + 2], dim=-1) for i, name in enumerate(names)}

    def _autocasts(self, images: Tensor) -> bool:
        return self.precision == "bf16" or torch.is_autocast_enabled(images.device.type)
