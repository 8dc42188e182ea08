"""What AF-CLIP computes: taps of a frozen CLIP, one adaptor, cosines with two learnt prompts."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.functional.scoring import smooth_upsample
from anomalib_zsad.models.af_clip.adapter import Adaptor, JointTokens, StatePrompts, WindowAggregation

Precision = Literal["fp32", "bf16"]


class Logits(NamedTuple):
    """What training and scoring start from."""

    image: Tensor  # (B, S) of the class token
    patches: Tensor  # (B, gh, gw, S)
    tokens: list[JointTokens]  # L x (R, B, 1 + N, D), factored


class AFClipModel(nn.Module):
    """AF-CLIP, zero-shot: normalised images in, scores in [0, 1] out.

    Source: "AF-CLIP: Zero-Shot Anomaly Detection via Anomaly-Focused CLIP Adaptation" (arXiv 2507.19949), eq. 3-12.

    Args:
        clip: The frozen CLIP.
        adaptor: Eq. 3-4.
        prompts: Eq. 8.
        aggregate: Eq. 5-6.
        layers: Vision blocks whose tokens are used, counted from 1.
        temperature: Divides every cosine.
        blur_sigma: Standard deviation in pixels of the blur of the final map.
        precision: "bf16" runs the frozen backbone in bfloat16; what learns stays in float32.
    """

    def __init__(
        self,
        clip: FrozenClip,
        adaptor: Adaptor,
        prompts: StatePrompts,
        aggregate: WindowAggregation,
        layers: Sequence[int],
        temperature: float = 0.07,
        blur_sigma: float = 4.0,
        precision: Precision = "fp32",
    ) -> None:
        super().__init__()
        self.clip = clip
        self.adaptor = adaptor
        self.prompts = prompts
        self.aggregate = aggregate
        self.layers = clip.check_layers(layers)
        self.temperature = temperature
        self.blur_sigma = blur_sigma
        self.precision = precision
        self._text: tuple[tuple[int, torch.device], Tensor] | None = None

    def forward(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
    ) -> InferenceBatch:
        """Score images: `pred_score` (B,) and `anomaly_map` (B, 1, H, W), both in [0, 1]."""
        return self.score(self.logits(images), size=(images.shape[-2], images.shape[-1]))

    def logits(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
    ) -> Logits:
        """Compare the tokens of every layer and window with both prompts, eq. 9."""
        grid = self.clip.grid_of(*images.shape[-2:])
        taps = self.encode(images)
        with torch.autocast(images.device.type, enabled=False):
            text = self.text_features()
            tokens = [
                JointTokens.of(self.adaptor(tap, grid, self.aggregate), self.adaptor.to_out, self.clip) for tap in taps
            ]
            total = torch.stack([token.cosines(text).sum(0) for token in tokens]).sum(0) / self.temperature
        return Logits(total[:, 0], total[:, 1:].unflatten(1, grid), tokens)

    def encode(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
    ) -> list[Tensor]:  # L x (B, 1 + N, C) float32
        """Read the taps of the frozen backbone."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._autocasts(images)):
            return [tap.float() for tap in self.clip.encode_patches(images, self.layers)]

    def score(self, logits: Logits, size: tuple[int, int]) -> InferenceBatch:
        """Turn logits into probabilities of the anomalous state, eq. 10 and 12; the map gets the image's size."""
        maps = smooth_upsample(logits.patches.softmax(-1)[..., 1], size, self.blur_sigma)
        # Rounding of the two matrix products must not leave [0, 1].
        return InferenceBatch(pred_score=logits.image.softmax(-1)[:, 1], anomaly_map=maps.clamp(0, 1)[:, None])

    def text_features(self) -> Tensor:  # (S, D), unit length
        """Encode the prompts; without gradients once for every state of the prompts."""
        if torch.is_grad_enabled() and self.prompts.vectors.requires_grad:
            return self.prompts(self.clip)
        state = (self.prompts.vectors._version, self.prompts.vectors.device)
        if self._text is None or self._text[0] != state:
            with torch.inference_mode(mode=False), torch.no_grad():
                self._text = (state, self.prompts(self.clip))
        return self._text[1]

    def _autocasts(self, images: Tensor) -> bool:
        return self.precision == "bf16" or torch.is_autocast_enabled(images.device.type)
