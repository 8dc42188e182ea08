"""The torch model of WMoE-CLIP: text sampled from the class token, refined by patches, and experts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.functional.scoring import cosines, log_odds, probability, smooth_upsample
from anomalib_zsad.functional.seeds import standard_normal
from anomalib_zsad.models.parts.compiling import whole_graph
from anomalib_zsad.models.parts.encoder import Encoder, Taps
from anomalib_zsad.models.parts.heads import ScoreHead
from anomalib_zsad.models.parts.text_side import TextSide
from anomalib_zsad.models.parts.tiling import Tileable
from anomalib_zsad.models.wmoe_clip.adapter import Attended, PatchProjections, WaveletCrossAttention
from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices
from anomalib_zsad.models.wmoe_clip.experts import Routed, SemanticExperts
from anomalib_zsad.models.wmoe_clip.sampler import ClassTokenSampler, Sample, SampledPrompts


class Logits(NamedTuple):
    """The input of the losses and of scoring, with the intermediate results that losses use."""

    image: Tensor  # (B, S)
    patches: Tensor  # (B, L, gh, gw, S), one map for each layer
    sample: Sample | None  # None without CTDS
    attended: list[Attended]  # L, none without WCMA
    routed: Routed | None  # None without SA-MoE


class WMoEClipModel(Tileable):
    """WMoE-CLIP: normalised images in, scores in [0, 1] out.

    Source: "WMoE-CLIP: Wavelet-Enhanced Mixture-of-Experts Prompt Learning for Zero-Shot Anomaly Detection"
    (arXiv 2603.06313), eq. 1-8. `WMoEChoices` has the settings that the paper leaves open.

    Args:
        encoder: The frozen CLIP, read after the vision blocks whose patches are used, then after the last one.
        sampler: Eq. 1. None: prompts are the same for all images (table 2 of the paper, no CTDS).
        prompts: Eq. 4.
        projections: Projections of patches to the joint space.
        attention: Eq. 5-7, one for all layers or one for each. None: text is not refined (no WCMA).
        experts: Eq. 8. None: the class token is CLIP's own (no SA-MoE).
        choices: The latent of prompts, the compared features, and the reduction of maps.
        n_layers: L, the number of blocks whose patches are used.
        sigma: Standard deviation in pixels of the blur of the final map; 0 for none.
        seed: Seed of the fixed noise.
    """

    fixed_noise: Tensor
    log_temperatures: Tensor

    def __init__(
        self,
        encoder: Encoder,
        sampler: ClassTokenSampler | None,
        prompts: SampledPrompts,
        projections: PatchProjections,
        attention: Sequence[WaveletCrossAttention] | None,
        experts: SemanticExperts | None,
        choices: WMoEChoices,
        n_layers: int,
        sigma: float = 8.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.sampler = sampler
        self.prompts = prompts
        self.projections = projections
        self.attention = nn.ModuleList(attention or [])
        self.experts = experts
        self.choices = choices
        self.n_layers = n_layers
        self.text_side = TextSide()
        self.head = ScoreHead(sigma, n_layers if choices.map_reduction == "sum" else 1, choices.smooth_score)
        logs = torch.tensor([choices.temperature, choices.score_temperature]).log()
        if choices.learn_temperature:
            self.log_temperatures = nn.Parameter(logs)
        else:
            self.register_buffer("log_temperatures", logs, persistent=False)
        noise = torch.randn(1, *self._noise_shape, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("fixed_noise", noise, persistent=False)

    def logits(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
        noise: Tensor | None = None,  # (B, m, D)
    ) -> Logits:
        """Compare images and their patches with the text that is sampled for them."""
        return self.compare(self.encoder(images), self.text_features(), noise)

    @whole_graph
    def compare(
        self,
        taps: Taps,  # L x (B, 1 + N, C), and the last block's where it is not among them
        text: Tensor | None = None,  # (1, S, D) of all images; None where text is sampled for each
        noise: Tensor | None = None,  # (B, m, D), standard normal; None: as `inference_sampling` says
        router_noise: Tensor | None = None,  # (B, E), standard normal; None for none
    ) -> Logits:
        """Sample text for every image, refine it layer by layer, and compute cosines."""
        with torch.autocast(self.log_temperatures.device.type, enabled=False):
            temperature, score_temperature = self.log_temperatures.exp().unbind()
            token = self._class_token(taps)
            text, sample = self._text(token, text, noise)
            patches = [self._project(layer, tap, taps.grid) for layer, tap in enumerate(taps.tokens[: self.n_layers])]
            attended = [self._attention_of(i)(each, text) for i, each in enumerate(patches) if self.attention]
            routed = self.experts(_pooled(patches), router_noise) if self.experts else None
            token = token + routed.mix if routed else token
            compared = [each.patches for each in attended] if self.choices.map_features == "frequency" else patches
            texts = [each.text for each in attended] or [text] * len(patches)
            maps = [cosines(each.flatten(1, 2), t) for each, t in zip(compared, texts, strict=True)]
            return Logits(
                image=cosines(token[:, None], text)[:, 0] / score_temperature,
                patches=torch.stack(maps, dim=1).unflatten(2, compared[0].shape[1:3]) / temperature,
                sample=sample,
                attended=attended,
                routed=routed,
            )

    @whole_graph
    def layer_maps(self, logits: Logits, size: tuple[int, int]) -> Tensor:  # (B, L, H, W) in [0, 1]
        """Compute each layer's probability of the anomalous state for every pixel, M_l.

        The softmax over two states is the sigmoid of their difference, and upsampling is linear.
        """
        difference = log_odds(logits.patches)
        with torch.autocast(difference.device.type, enabled=False):
            return smooth_upsample(difference, size, sigma=0.0).sigmoid()

    @whole_graph
    def score(self, logits: Logits, size: tuple[int, int]) -> InferenceBatch:
        """Average the layers' maps, and combine the map's maximum with the class token's probability."""
        return self.head(probability(logits.image), self.layer_maps(logits, size).mean(1), size)

    def text_features(self) -> Tensor | None:  # (1, S, D), not normalised
        """Encode the prompts where they are the same for all images, without gradients once for each of their states.

        None where text depends on images.
        """
        return None if self.sampler is not None else self.text_side(self.prompts, self.encoder.clip)

    def draw(
        self,
        generators: Sequence[Generator | None],  # B
    ) -> tuple[Tensor | None, Tensor | None]:  # (B, m, D) and (B, E)
        """Draw the noise of a training step for prompts and router; None for a part without noise."""
        device = self.log_temperatures.device
        noise = standard_normal(generators, *self._noise_shape).to(device, non_blocking=True) if self.sampler else None
        noisy = self.experts is not None and self.experts.noise_weight is not None
        n_experts = self.experts.router.out_features if self.experts else 0
        return noise, standard_normal(generators, n_experts).to(device, non_blocking=True) if noisy else None

    def fold_text(self) -> None:
        """Remove what inference does not use, for export: the text tower stays if text depends on images."""
        if self.sampler is None:
            self.text_side.fold(self.prompts, self.encoder.clip)
            self.encoder.drop_text()
        else:
            self.encoder.clip = self.encoder.clip.without_vocabulary()

    @property
    def _noise_shape(self) -> tuple[int, int]:
        return self.prompts.vectors.shape[1], self.encoder.clip.joint_width

    def _class_token(
        self,
        taps: Taps,
    ) -> Tensor:  # (B, D) x_c
        clip = self.encoder.clip
        token = clip.project(taps.tokens[self.encoder.layers.index(clip.n_blocks)][:, 0])
        if self.choices.cls_scale == "raw":
            return token
        return F.normalize(token, dim=-1) * (1 if self.choices.cls_scale == "unit" else token.shape[-1] ** 0.5)

    def _text(
        self,
        token: Tensor,  # (B, D)
        text: Tensor | None,  # (1, S, D)
        noise: Tensor | None,
    ) -> tuple[Tensor, Sample | None]:  # (B, S, D)
        if text is not None:
            return text.expand(token.shape[0], -1, -1), None
        sampler: Any = self.sampler  # without one there is a text of all images
        if noise is None and self.choices.inference_sampling == "fixed":
            noise = self.fixed_noise
        elif noise is None and self.choices.inference_sampling == "monte_carlo":
            noise = torch.randn(token.shape[0], *self._noise_shape, device=token.device)
        sample = sampler(token, noise)
        drawn = sample.decoded if self.choices.prompt_latent == "decoded" else sample.latent
        return self.prompts(self.encoder.clip, drawn), sample

    def _project(
        self,
        layer: int,
        tap: Tensor,  # (B, 1 + N, C)
        grid: tuple[int, int],
    ) -> Tensor:  # (B, gh, gw, D) F_I
        return self.projections(self.encoder.clip, layer, tap[:, 1:]).unflatten(1, grid)

    def _attention_of(self, layer: int) -> nn.Module:
        return self.attention[layer if len(self.attention) > 1 else 0]


def _pooled(
    patches: list[Tensor],  # L x (B, gh, gw, D)
) -> Tensor:  # (B, L, D)
    return torch.stack([each.mean((1, 2)) for each in patches], dim=1)
