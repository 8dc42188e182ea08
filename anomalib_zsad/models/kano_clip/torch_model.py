"""The torch model of KAnoCLIP: patches of CLIP-VV and text that refine each other, and an adapted global feature."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_zsad.functional.scoring import cosines, probability
from anomalib_zsad.models.kano_clip.adapter import BiCMCI
from anomalib_zsad.models.kano_clip.choices import KAnoChoices
from anomalib_zsad.models.kano_clip.conv_adapter import ConvAdapter
from anomalib_zsad.models.kano_clip.maps import StateMaps, state_maps
from anomalib_zsad.models.kano_clip.prompts import FixedPrompts, KnowledgePrompts, KnowledgeTargets
from anomalib_zsad.models.parts.compiling import whole_graph
from anomalib_zsad.models.parts.encoder import Encoder, Taps
from anomalib_zsad.models.parts.heads import ScoreHead
from anomalib_zsad.models.parts.text_side import TextSide
from anomalib_zsad.models.parts.tiling import Tileable


class Logits(NamedTuple):
    """The input of the losses and of scoring."""

    image: Tensor  # (B, S)
    patches: Tensor  # (B, L, gh, gw, S), one map for each stage
    offsets: Tensor  # (L,) mean distance that sampling points moved, in halves of the map's sides
    entropies: Tensor  # (L,) of the attention from text to patches


class Scores(NamedTuple):
    """The parts of the scores, in [0, 1] except the log-odds."""

    text: Tensor  # (B,) of the global feature
    log_odds: StateMaps  # of eq. 9
    maps: Tensor  # (B, H, W) of eq. 10 before its blur; with a softmax M^a
    smooth: Tensor  # (B, H, W) M of eq. 10

    def parts(self, smooth: bool = True) -> tuple[Tensor, Tensor]:  # (B,) each
        """Return the parts of the image score: the text's score and the map's maximum."""
        return self.text, (self.smooth if smooth else self.maps).amax(dim=(-2, -1))


class KAnoClipModel(Tileable):
    """KAnoCLIP: normalised images and the names of their classes in, scores in [0, 1] out.

    Source: "KAnoCLIP: Zero-Shot Anomaly Detection through Knowledge-Driven Prompt Learning and Enhanced Cross-Modal
    Integration" (arXiv 2501.03786), eq. 1-12.

    Args:
        encoder: The frozen CLIP, read as `StageTokens` does.
        prompts: Eq. 1.
        bicmci: Eq. 9. None: patches and text are not refined.
        conv_adapter: Eq. 11. None: the global feature is not adapted.
        choices: Temperatures, projections, and the reduction to maps.
        class_name: The class of images whose class is not given.
        sigma: Standard deviation in pixels of the blur of the final map, eq. 10.
    """

    def __init__(
        self,
        encoder: Encoder,
        prompts: KnowledgePrompts | FixedPrompts,
        bicmci: BiCMCI | None,
        conv_adapter: ConvAdapter | None,
        choices: KAnoChoices,
        class_name: str,
        sigma: float = 4.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.prompts = prompts
        self.bicmci = bicmci
        self.conv_adapter = conv_adapter
        self.projections: nn.ModuleList | None = None
        clip = encoder.clip
        if choices.patch_projection == "linear":
            self.projections = nn.ModuleList(nn.Linear(clip.vision_width, clip.joint_width) for _ in encoder.layers)
        self.targets: KnowledgeTargets | None = KnowledgeTargets(clip.joint_width)
        self.choices = choices
        self.text_side = TextSide(class_name)
        self.head = ScoreHead(sigma, peak_weight=1.0)  # eq. 10 and 12

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
        taps: Taps,  # (L + 1) x (B, 1 + N, D), from the encoder
        text: Tensor,  # (B or 1, S, D)
    ) -> Logits:
        """Compare the patches of every stage and the global feature with both states, eq. 9 and 11-12."""
        with torch.autocast(text.device.type, enabled=False):
            last, grid, patches = taps.tokens[-1], taps.grid, self.patches_of(taps)
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

    def patches_of(self, taps: Taps) -> list[Tensor]:  # L x (B, N, D)
        """Project the patches of every stage to the joint space."""
        patches = [tokens[:, 1:] for tokens in taps.tokens[:-1]]
        if self.projections is None:
            return patches
        return [project(each) for project, each in zip(self.projections, patches, strict=True)]

    @whole_graph
    def score(self, logits: Logits, size: tuple[int, int]) -> InferenceBatch:
        """Compute the map from logits, and combine its maximum with the global feature's probability."""
        scores = self.scores(logits, size)
        score = self.head.join(scores.text, scores.smooth)  # eq. 12, divided by its bound
        return InferenceBatch(pred_score=score, anomaly_map=scores.smooth[:, None])

    @whole_graph
    def scores(self, logits: Logits, size: tuple[int, int]) -> Scores:
        """Compute the parts of the scores, eq. 9-10 and 12.

        With a softmax the two maps of eq. 9 add up to 1, so eq. 10 is the blurred abnormal one.
        """
        log_odds = self.maps_of(self.join_stages(logits), size)
        maps = log_odds.abnormal.sigmoid()
        if log_odds.normal is not None:
            maps = (maps + 1 - log_odds.normal.sigmoid()) / 2
        return Scores(probability(logits.image), log_odds, maps, self.head.smooth(maps, size))

    def join_stages(self, logits: Logits) -> Tensor:  # (B, gh, gw, S)
        """Reduce the logits of the stages, eq. 9."""
        return logits.patches.sum(1) if self.choices.stage_reduction == "sum" else logits.patches.mean(1)

    @whole_graph
    def maps_of(
        self,
        logits: Tensor,  # (B, gh, gw, S) of the joined stages, or of one
        size: tuple[int, int],
    ) -> StateMaps:
        """Compute maps from logits, eq. 9."""
        return state_maps(logits, size, self.choices)

    def text_features(
        self,
        class_names: Sequence[str] | None = None,  # B
    ) -> Tensor:  # (B, S, D), not normalised; (1, S, D) where all images have the default class
        """Encode the prompts of the classes; without gradients they are cached until the prompts change."""
        return self.text_side(self.prompts, self.encoder.clip, class_names)

    def knowledge_of(
        self,
        texts: Sequence[Sequence[str]],  # n sets
    ) -> Tensor:  # (n, D)
        """Encode sets of descriptions, eq. 3."""
        if self.targets is None:
            msg = "expected a model with its text tower, got one that was folded for export"
            raise RuntimeError(msg)
        with torch.autocast(self.encoder.clip.projection.device.type, enabled=False):
            return self.targets(self.encoder.clip, texts)

    def fold_text(self) -> None:
        """Replace prompts and text tower by the features of the default class, for export."""
        self.text_side.fold(self.prompts, self.encoder.clip)
        self.encoder.drop_text()
        self.targets = None
