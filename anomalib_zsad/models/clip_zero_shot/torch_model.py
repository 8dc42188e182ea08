"""What CLIP says of an image and of its patches without any training."""

from collections.abc import Sequence

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.data.item import ANY_CATEGORY
from anomalib_zsad.functional.scoring import smooth_upsample
from anomalib_zsad.models.acd_clip.prompts import ClassPrompts
from anomalib_zsad.models.parts.class_text import ClassText


class ClipZeroShotModel(nn.Module):
    """Normalised images and the names of their classes in, scores in [0, 1] out.

    The class token gives the image's score, the patches of the last block, projected as it is, the map.

    Args:
        clip: The frozen CLIP.
        prompts: Of both states; their unit-length features are averaged state by state.
        temperature: Divides every cosine.
        blur_sigma: Standard deviation in pixels of the blur of the map.
        class_name: The class of images that come without one.
    """

    folded_text: Tensor | None

    def __init__(
        self,
        clip: FrozenClip,
        prompts: ClassPrompts,
        temperature: float = 0.01,
        blur_sigma: float = 4.0,
        class_name: str = ANY_CATEGORY,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.prompts = prompts
        self.temperature = temperature
        self.blur_sigma = blur_sigma
        self.class_name = class_name
        self.register_buffer("folded_text", None, persistent=False)
        self._class_text = ClassText()

    def forward(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
        class_names: Sequence[str] | None = None,  # B
    ) -> InferenceBatch:
        """Score images: `pred_score` (B,) and `anomaly_map` (B, 1, H, W), both in [0, 1]."""
        grid = self.clip.grid_of(*images.shape[-2:])
        (tokens,) = self.clip.encode_patches(images, [self.clip.n_blocks])
        unit = F.normalize(self.clip.project(tokens), dim=-1).float()
        similar = unit @ self.text_features(class_names).transpose(-1, -2)  # (B, 1 + N, S)
        anomalous = (similar / self.temperature).softmax(-1)[..., 1]
        maps = smooth_upsample(
            anomalous[:, 1:].unflatten(1, grid), (images.shape[-2], images.shape[-1]), self.blur_sigma
        )
        return InferenceBatch(pred_score=anomalous[:, 0], anomaly_map=maps.clamp(0, 1)[:, None])

    def text_features(
        self,
        class_names: Sequence[str] | None = None,  # B
    ) -> Tensor:  # (B, S, D), unit length; (1, S, D) where all images have the default class
        """Encode the prompts of the classes, each class once."""
        if self.folded_text is not None:
            return self.folded_text
        names = list(class_names) if class_names else [self.class_name]
        return self._class_text.of(names, [self.clip.projection], self._encode)

    def fold_text(self) -> None:
        """Keep what is said of the default class without what encodes it, for export."""
        self.folded_text = self.text_features()
        self.clip = self.clip.without_text()

    def _encode(self, names: Sequence[str]) -> dict[str, Tensor]:
        return {name: torch.stack([self._of_state(texts) for texts in self.prompts.of(name)]) for name in names}

    def _of_state(self, texts: Sequence[str]) -> Tensor:  # (D,)
        tokens = self.clip.tokenize(texts).to(self.clip.projection.device)
        features = self.clip.encode_text(self.clip.embed_tokens(tokens), tokens.argmax(-1))
        return F.normalize(F.normalize(features, dim=-1).mean(0), dim=-1)
