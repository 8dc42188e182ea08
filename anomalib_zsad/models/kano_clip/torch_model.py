"""What KAnoCLIP computes: patches of CLIP-VV and texts that refine each other, and an adapted global feature."""

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.data.item import ANY_CATEGORY
from anomalib_zsad.functional.scoring import smooth_upsample
from anomalib_zsad.models.kano_clip.adapter import BiCMCI, cosines
from anomalib_zsad.models.kano_clip.choices import KAnoChoices
from anomalib_zsad.models.kano_clip.conv_adapter import ConvAdapter
from anomalib_zsad.models.kano_clip.maps import StateMaps, state_maps
from anomalib_zsad.models.kano_clip.prompts import FixedPrompts, KnowledgePrompts, KnowledgeTargets
from anomalib_zsad.models.parts.feature_cache import cacheable
from anomalib_zsad.models.parts.text_side import TextSide

Precision = Literal["fp32", "bf16"]


class Logits(NamedTuple):
    """What training and scoring start from."""

    image: Tensor  # (B, S)
    patches: Tensor  # (B, L, gh, gw, S), one map a stage
    offsets: Tensor  # (L,) mean distance that sampling points moved, in halves of the map's sides
    entropies: Tensor  # (L,) of the attention from text to patches


class Scores(NamedTuple):
    """The parts of the scores, in [0, 1] but the log-odds."""

    text: Tensor  # (B,) of the global feature
    log_odds: StateMaps  # of eq. 9
    maps: Tensor  # (B, H, W) of eq. 10 before its blur; with a softmax M^a
    smooth: Tensor  # (B, H, W) M of eq. 10

    def parts(self, smooth: bool = True) -> tuple[Tensor, Tensor]:  # (B,) each
        """Give what the image score is made of: the text's score and the map's maximum."""
        return self.text, (self.smooth if smooth else self.maps).amax(dim=(-2, -1))

    def of_image(self) -> Tensor:  # (B,)
        """Join them, eq. 12, divided by the bound so that 1 is the most."""
        text, peak = self.parts()
        return (text + peak) / 2


class KAnoClipModel(nn.Module):
    """KAnoCLIP: normalised images and the names of their classes in, scores in [0, 1] out.

    Source: "KAnoCLIP: Zero-Shot Anomaly Detection through Knowledge-Driven Prompt Learning and Enhanced Cross-Modal
    Integration" (arXiv 2501.03786), eq. 1-12.

    Args:
        clip: The frozen CLIP.
        prompts: Eq. 1.
        bicmci: Eq. 9. None compares the patches with the text as they are.
        conv_adapter: Eq. 11. None leaves the global feature as it is.
        choices: What is compared, and how maps are made of it.
        layers: Vision blocks after which the stages end, counted from 1.
        use_vv: Whether V-V attention gathers the stages' tokens, eq. 8; else they are CLIP's own.
        sigma: Standard deviation in pixels of the blur of the final map, eq. 10.
        class_name: The class of images that come without one.
        precision: "bf16" runs the frozen vision tower in bfloat16; what learns stays in float32.
    """

    encoding: ClassVar = ("layers", "vv_start", "vv_ffn", "cls_source", "cls_ln_post", "projects", "precision")
    encoder = property(lambda self: self)
    recipe = property(lambda self: {name: getattr(self, name) for name in self.encoding})

    def __init__(
        self,
        clip: FrozenClip,
        prompts: KnowledgePrompts | FixedPrompts,
        bicmci: BiCMCI | None,
        conv_adapter: ConvAdapter | None,
        choices: KAnoChoices,
        layers: Sequence[int],
        use_vv: bool = True,
        sigma: float = 4.0,
        class_name: str = ANY_CATEGORY,
        precision: Precision = "fp32",
    ) -> None:
        super().__init__()
        self.clip = clip
        self.prompts = prompts
        self.bicmci = bicmci
        self.conv_adapter = conv_adapter
        self.projections: nn.ModuleList | None = None
        if choices.patch_projection == "linear":
            self.projections = nn.ModuleList(nn.Linear(clip.vision_width, clip.joint_width) for _ in layers)
        self.projects = self.projections is None  # whether `encode` ends in the joint space
        self.targets: KnowledgeTargets | None = KnowledgeTargets(clip.joint_width)
        self.layers = clip.check_layers(layers)
        self.vv_start = _vv_start(choices.vv_start_layer, clip) if use_vv else None
        self.choices = choices
        self.vv_ffn, self.cls_source, self.cls_ln_post = choices.vv_ffn, choices.cls_source, choices.cls_ln_post
        self.sigma = sigma
        self.precision = precision
        self.text_side = TextSide(class_name)

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
        return self.compare(self.encode(images), grid, self.text_features(class_names))

    @cacheable
    @torch.no_grad()
    def encode(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
    ) -> list[Tensor]:  # (L + 1) x (B, 1 + N, D) float32; of width C where a learnt projection follows
        """Read what nothing learnt can change: the tokens of every stage, and the last of CLIP's own stream.

        The first of the last ones is the global feature.
        """
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._autocasts(images)):
            if self.vv_start is None:
                *stages, last = self.clip.encode_patches(images, [*self.layers, self.clip.n_blocks])
            else:
                stages, last = self.clip.encode_patches_vv(images, self.layers, self.vv_start, self.vv_ffn)
        with torch.autocast(images.device.type, enabled=False):
            project = self.clip.project if self.projects else nn.Identity()
            own = self.clip.project(last.float())
            if self.cls_source == "vv" or not self.cls_ln_post:
                token = (stages[-1] if self.cls_source == "vv" else last)[:, :1].float()
                token = self.clip.project(token) if self.cls_ln_post else token @ self.clip.projection
                own = torch.cat([token, own[:, 1:]], dim=1)
            return [*(project(tokens.float()) for tokens in stages), own]

    def compare(
        self,
        features: list[Tensor],  # (L + 1) x (B, 1 + N, D), from `encode`
        grid: tuple[int, int],
        text: Tensor,  # (B or 1, S, D)
    ) -> Logits:
        """Compare the patches of every stage and the global feature with both states, eq. 9 and 11-12."""
        with torch.autocast(text.device.type, enabled=False):
            *stages, last = features
            patches = [tokens[:, 1:] for tokens in stages]
            if self.projections is not None:
                patches = [project(each) for project, each in zip(self.projections, patches, strict=True)]
            if self.bicmci is None:
                similar = [cosines(each, text) for each in patches]
                offsets = entropies = text.new_zeros(len(similar))
            else:
                compared = self.bicmci(patches, text, grid)
                similar = [each.cosines for each in compared]
                offsets, entropies = (torch.stack([each[i] for each in compared]) for i in (1, 2))
            maps = torch.stack(similar, dim=1).unflatten(2, grid) / self.choices.temperature
            image = last[:, 0] if self.conv_adapter is None else self.conv_adapter(last[:, 0], last[:, 1:], grid)
            image = cosines(image[:, None], text)[:, 0] / self.choices.score_temperature
            return Logits(image, maps, offsets, entropies)

    def score(self, logits: Logits, size: tuple[int, int]) -> InferenceBatch:
        """Turn logits into one map of the image's size, and join its maximum and the global feature's probability."""
        scores = self.scores(logits, size)
        return InferenceBatch(pred_score=scores.of_image(), anomaly_map=scores.smooth[:, None])

    def scores(self, logits: Logits, size: tuple[int, int]) -> Scores:
        """Compute the parts of the scores, eq. 9-10 and 12.

        With a softmax the two maps of eq. 9 add up to 1, so eq. 10 is the blurred abnormal one.
        """
        joined = logits.patches.sum(1) if self.choices.stage_reduction == "sum" else logits.patches.mean(1)
        log_odds = self.maps_of(joined, size)
        maps = log_odds.abnormal.sigmoid()
        if log_odds.normal is not None:
            maps = (maps + 1 - log_odds.normal.sigmoid()) / 2
        with torch.autocast(maps.device.type, enabled=False):
            # Rounding of the matrix products must not leave [0, 1].
            smooth = smooth_upsample(maps, size, self.sigma).clamp(0, 1) if self.sigma else maps
        return Scores(logits.image.softmax(-1)[:, 1], log_odds, maps, smooth)

    def maps_of(
        self,
        logits: Tensor,  # (B, gh, gw, S) of the joined stages, or of one
        size: tuple[int, int],
    ) -> StateMaps:
        """Make maps of logits, eq. 9."""
        return state_maps(logits, size, self.choices)

    def text_features(
        self,
        class_names: Sequence[str] | None = None,  # B
    ) -> Tensor:  # (B, S, D), as the encoder gives them; (1, S, D) where all images have the default class
        """Encode what is said of the classes; without gradients once for every class and state of the prompts."""
        return self.text_side(self.prompts, self.clip, class_names)

    def knowledge_of(
        self,
        texts: Sequence[Sequence[str]],  # n sets
    ) -> Tensor:  # (n, D)
        """Encode sets of descriptions, eq. 3."""
        if self.targets is None:
            msg = "expected a model with its text tower, got one that was folded for export"
            raise RuntimeError(msg)
        with torch.autocast(self.clip.projection.device.type, enabled=False):
            return self.targets(self.clip, texts)

    def fold_text(self) -> None:
        """Keep what is said of the default class without what encodes it, for export: no image changes it."""
        self.text_side.fold(self.prompts, self.clip)
        self.clip = self.clip.without_text()
        self.targets = None

    def _autocasts(self, images: Tensor) -> bool:
        return self.precision == "bf16" or torch.is_autocast_enabled(images.device.type)


def _vv_start(layer: int | None, clip: FrozenClip) -> int:
    if layer is None:
        return clip.quarters()[0]
    if not 1 <= layer <= clip.n_blocks:
        msg = f"vv_start_layer must name a block from 1 to {clip.n_blocks} of this backbone, got {layer}"
        raise ValueError(msg)
    return layer
