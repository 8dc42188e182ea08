"""Explaining a prediction of KAnoCLIP by the descriptions of a knowledge base."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import to_pil_image

from anomalib_zsad.data.item import ANY_CATEGORY
from anomalib_zsad.data.reading import read_image
from anomalib_zsad.functional.scoring import probability, size_of
from anomalib_zsad.knowledge.base import GENERIC, KnowledgeBase
from anomalib_zsad.models.kano_clip import KAnoClip
from anomalib_zsad.models.parts.text_side import encode_sentences
from anomalib_zsad.models.parts.tiling import views_of


@dataclass(frozen=True)
class Match:
    """The similarity of a description: cosines in CLIP's joint space, from -1 to 1.

    Args:
        text: The description.
        of: The entry of the knowledge base that it belongs to.
        abnormal: Cosine with the abnormal prompts of the image's class.
        normal: Cosine with the normal ones.
        patches: Mean cosine with the most anomalous patches, over all stages.
        above_rest: The difference of that and the mean cosine with all patches of the image.
    """

    text: str
    of: str
    abnormal: float
    normal: float
    patches: float
    above_rest: float


@dataclass(frozen=True)
class Patch:
    """One of the most anomalous patches.

    Args:
        row: Row in the grid, from 0 at the top.
        column: Column in the grid, from 0 at the left.
        box: Left, top, right and bottom in pixels of the image.
        probability: Probability of an anomaly, before smoothing.
        text: The closest description.
    """

    row: int
    column: int
    box: tuple[int, int, int, int]
    probability: float
    text: str


@dataclass(frozen=True)
class Explanation:
    """The explanation of a prediction.

    Args:
        image: The image.
        anomaly_map: (H, W) in [0, 1].
        score: Image score in [0, 1].
        class_name: The class name in the prompts.
        matches: One for each description, by decreasing cosine with the most anomalous patches.
        patches: The most anomalous patches, by decreasing probability.
    """

    image: Image.Image
    anomaly_map: Tensor
    score: float
    class_name: str
    matches: list[Match]
    patches: list[Patch]

    def as_data(self) -> dict[str, Any]:
        """Return everything but images and maps as plain data."""
        return {
            "score": self.score,
            "class_name": self.class_name,
            "matches": [asdict(match) for match in self.matches],
            "patches": [asdict(patch) for patch in self.patches],
        }


class _Seen(NamedTuple):
    """The features and scores of one image."""

    probabilities: Tensor  # (gh, gw)
    features: Tensor  # (L, N, D), of length 1
    text: Tensor  # (S, D), of length 1
    anomaly_map: Tensor  # (H, W)
    score: float


@torch.inference_mode()
def explain(
    model: KAnoClip,
    image_path: str | Path,
    base: KnowledgeBase,
    class_name: str | None = None,
    dataset: str | None = None,
    *,
    all_classes: bool = False,
    n_patches: int = 5,
) -> Explanation:
    """Compare the descriptions of a class with the prompts of that class and with the patches of an image.

    Args:
        model: A trained model.
        image_path: The image.
        base: The knowledge base with the descriptions; not necessarily that of the training.
        class_name: The category of the image, as its dataset calls it. None: "object". If the base does not know it,
            a warning is logged and the descriptions of any object are used.
        dataset: Name of the dataset, for class names such as `01`.
        all_classes: Compare the descriptions of all classes.
        n_patches: The number of most anomalous patches.

    Raises:
        ValueError: If the number of patches is not positive.
        OSError: If the image cannot be read.
    """
    if n_patches < 1:
        msg = f"patches must be 1 or more, got {n_patches}"
        raise ValueError(msg)
    category = class_name or ANY_CATEGORY
    picture = read_image(image_path)
    name = model.class_names.describe(category)
    seen = _look(model, picture, name)
    texts, owners = _texts(base, category, dataset, all_classes=all_classes)
    encoded = F.normalize(encode_sentences(model.model.encoder.clip, texts), dim=-1)  # (T, D)
    close = (seen.features @ encoded.T).mean(0)  # (N, T)
    top = seen.probabilities.flatten().topk(min(n_patches, seen.probabilities.numel()))
    near = close[top.indices]
    columns = (seen.text @ encoded.T)[1], (seen.text @ encoded.T)[0], near.mean(0), near.mean(0) - close.mean(0)
    matches = [Match(*row) for row in zip(texts, owners, *(column.tolist() for column in columns), strict=True)]
    boxes = [_box(int(i), seen.probabilities.shape, picture.shape) for i in top.indices]
    return Explanation(
        image=to_pil_image(picture),
        anomaly_map=seen.anomaly_map,
        score=seen.score,
        class_name=name,
        matches=sorted(matches, key=lambda match: -match.patches),
        patches=[
            Patch(*place, probability=value, text=texts[int(best)])
            for place, value, best in zip(boxes, top.values.tolist(), near.argmax(1), strict=True)
        ],
    )


def _look(model: KAnoClip, picture: Tensor, name: str) -> _Seen:
    inner: Any = model.model
    prepare: Any = model.pre_processor
    images = next(views_of(prepare.transform(picture[None]).to(model.device), inner.tiler))  # not its tiles
    size = size_of(images)
    text = inner.text_features([name])
    taps = inner.encoder(images)
    logits = inner.compare(taps, text)
    scores = inner.score(logits, size)
    return _Seen(
        probabilities=probability(inner.join_stages(logits)[0]),
        features=F.normalize(torch.cat(inner.patches_of(taps)), dim=-1),
        text=F.normalize(text[0], dim=-1),
        anomaly_map=scores.anomaly_map[0, 0].cpu(),
        score=float(scores.pred_score[0]),
    )


def _texts(
    base: KnowledgeBase, category: str, dataset: str | None, *, all_classes: bool
) -> tuple[list[str], list[str]]:
    if all_classes:
        found = {entry: base.texts(entry) for entry in base.classes}
    else:
        found = {base.find(category, dataset) or GENERIC: base.texts(category, dataset)}
    pairs = [(text, entry) for entry, texts in found.items() for text in texts]
    return [text for text, _ in pairs], [entry for _, entry in pairs]


def _box(index: int, grid: Sequence[int], shape: Sequence[int]) -> tuple[int, int, tuple[int, int, int, int]]:
    row, column = divmod(index, grid[1])
    tops, lefts = (
        [round(i * side / cells) for i in range(cells + 1)] for side, cells in zip(shape[1:], grid, strict=True)
    )
    return row, column, (lefts[column], tops[row], lefts[column + 1], tops[row + 1])
