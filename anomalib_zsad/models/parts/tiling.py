"""Scoring of images that are larger than what a model looks at: the whole picture, and windows at full resolution."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import torch
from anomalib.data import InferenceBatch
from anomalib.data.utils.tiler import Tiler
from torch import Tensor, nn

from anomalib_zsad.functional.resizing import resize_bicubic, resize_bilinear
from anomalib_zsad.functional.scoring import size_of
from anomalib_zsad.functional.tiling import blend, window_starts
from anomalib_zsad.models.parts.compiling import Compilable, begin_step, kept
from anomalib_zsad.models.parts.encoder import encoders_in

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Views:
    """The views of images that are scored: the whole picture and its windows, all of the size of a tile."""

    images: Tensor  # (B, 3, H, W), no smaller than a tile
    rows: list[int]
    columns: list[int]
    tile: tuple[int, int]

    @classmethod
    def of(cls, images: Tensor, tiler: Tiler) -> "Views":
        """Spread windows over images; those that are smaller than a tile are enlarged to it.

        Raises:
            ValueError: If the tiler would cut borders off.
        """
        if tiler.remove_border_count:
            msg = (
                f"remove_border_count: expected 0, since overlapping tiles are blended, got {tiler.remove_border_count}"
            )
            raise ValueError(msg)
        height, width = size_of(images)
        tile = (tiler.tile_size_h, tiler.tile_size_w)
        height, width = max(height, tile[0]), max(width, tile[1])
        if (height, width) != size_of(images):
            images = resize_bicubic(images, (height, width))
        rows = window_starts(height, tile[0], tiler.stride_h)
        return cls(images, rows, window_starts(width, tile[1], tiler.stride_w), tile)

    def __iter__(self) -> Iterator[Tensor]:  # of (B, 3, h, w)
        """Yield the whole picture, and where that is not all the windows row by row."""
        yield self.images if size_of(self.images) == self.tile else resize_bicubic(self.images, self.tile)
        if len(self.rows) * len(self.columns) > 1:
            for top in self.rows:
                for left in self.columns:
                    yield self.images[..., top : top + self.tile[0], left : left + self.tile[1]]


def plain_sizes(tiler: Tiler | None) -> list[int] | None:
    """Return height and width of a tile and of the stride as plain data."""
    return None if tiler is None else [tiler.tile_size_h, tiler.tile_size_w, tiler.stride_h, tiler.stride_w]


def views_of(images: Tensor, tiler: Tiler | None) -> Iterator[Tensor]:
    """Yield the whole picture, resized to one tile, and then the tiles; without a tiler the images as they are."""
    return iter([images]) if tiler is None else iter(Views.of(images, tiler))


def tiled(forward: F) -> F:
    """Let the `forward` of a `Tileable` score images larger than a tile in overlapping windows.

    The score of an image is the mean of that of the whole picture, resized to a tile, and of the highest of its
    windows; its map is blended from the maps of the windows. What a tile covers is scored as without a tiler.

    Args:
        forward: Scores images (B, 3, h, w) of the size of a tile; whatever else it takes has an entry for each image.
    """

    @wraps(forward)
    def step(model: Any, images: Tensor, *others: Any) -> InferenceBatch:
        begin_step(model)
        found = forward(model, images, *others)
        return InferenceBatch(pred_score=kept(found.pred_score, model), anomaly_map=kept(found.anomaly_map, model))

    @wraps(forward)
    def score(model: Any, images: Tensor, *others: Any) -> InferenceBatch:
        if model.tiler is None or size_of(images) == (model.tiler.tile_size_h, model.tiler.tile_size_w):
            return step(model, images, *others)
        if model.tile_batch is None:
            return _score_views(step, model, images, others)
        count, results = model.tile_batch, []
        for start in range(0, len(images), count):
            part = slice(start, start + count)
            own = [None if each is None else each[part] for each in others]
            results.append(_score_views(step, model, images[part], own))
        return _joined(results)

    return score  # type: ignore[return-value]


class Tileable(Compilable):
    """A torch model of a method: `forward` is `score(logits(images))`, in windows where images are tiled."""

    tiler: Tiler | None = None
    """How images are cut into windows; None: they are scored as they are.

    anomalib's `TilerConfigurationCallback` sets it, too. The size of its tiles and its stride count; its `mode` does
    not, since windows are spread so that none leaves the image.
    """
    tile_batch: int | None = 8
    """The most windows that are scored at a time; None: all at once, as an exported graph does."""

    def tile_as(
        self,
        given: Mapping[str, Any],  # `tile`, `tile_overlap`, `tile_batch` and `image_size` of a model
        held: Tiler | None,
    ) -> None:
        """Tile images by the arguments of a model, or without a `tile` among them by the tiler that a callback has set.

        Raises:
            ValueError: If tiles are larger than the images.
        """
        tile = given["tile"]
        self.tiler = held if tile is None else _tiler_of(tile, given["image_size"], given["tile_overlap"])
        self.tile_batch = given["tile_batch"]

    @tiled
    def forward(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
        *others: Any,  # what else `logits` takes, with an entry for each image
    ) -> InferenceBatch:
        """Score images: `pred_score` (B,) and `anomaly_map` (B, 1, H, W), both in [0, 1]."""
        return self.score(self.logits(images, *others), size_of(images))

    def logits(self, images: Tensor, *others: Any, **named: Any) -> Any:
        """Compare images (B, 3, H, W) with text."""
        raise NotImplementedError

    def score(self, logits: Any, size: tuple[int, int]) -> InferenceBatch:
        """Turn logits into scores of the images and of their pixels, at a height and width."""
        raise NotImplementedError


def _score_views(forward: Callable[..., Any], model: Any, images: Tensor, others: Sequence[Any]) -> InferenceBatch:
    """Score images that are few enough to be scored at a time."""
    views = Views.of(images, model.tiler)
    results: list[Any] = []
    with _without_cache(model):
        for batch in _batched(views, None if model.tile_batch is None else max(1, model.tile_batch // len(images))):
            result = forward(model, torch.cat(batch), *(_repeated(each, len(batch)) for each in others))
            scored = (result.pred_score, result.anomaly_map)
            results += zip(*(each.unflatten(0, (len(batch), -1)) for each in scored), strict=True)
    (whole, maps), *windows = results
    if windows:
        highest = torch.stack([score for score, _ in windows]).amax(0)
        whole = (whole + highest) / 2
        maps = blend([each for _, each in windows], views.rows, views.columns, size_of(views.images)).clamp(0, 1)
    if size_of(maps) != size_of(images):
        maps = resize_bilinear(maps, size_of(images)).clamp(0, 1)
    return InferenceBatch(pred_score=whole, anomaly_map=maps)


def _batched(views: Views, size: int | None) -> Iterator[list[Tensor]]:
    batch: list[Tensor] = []
    for view in views:
        batch.append(view)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _repeated(values: Any, times: int) -> Any:
    """Repeat what has an entry for each image, for as many views of them all."""
    if values is None:
        return None
    return torch.cat([values] * times) if isinstance(values, Tensor) else list(values) * times


def _joined(results: Sequence[InferenceBatch]) -> InferenceBatch:
    fields = ("pred_score", "anomaly_map")
    return InferenceBatch(**{name: torch.cat([getattr(each, name) for each in results]) for name in fields})


@contextmanager
def _without_cache(model: nn.Module) -> Iterator[None]:
    """Compute the windows of validation images anew: kept, they would take many times the space of a training."""
    encoders = encoders_in(model)
    caches = [encoder.feature_cache for encoder in encoders]
    for encoder in encoders:
        encoder.feature_cache = None
    try:
        yield
    finally:
        for encoder, cache in zip(encoders, caches, strict=True):
            encoder.feature_cache = cache


def _tiler_of(
    tile: int | tuple[int, int],
    image_size: int | tuple[int, int] | None,
    overlap: float,
) -> Tiler:
    """Make the tiler of a model's arguments.

    Args:
        tile: Height and width of a tile in pixels.
        image_size: That of the images; None: they keep their size.
        overlap: The share of a tile that the next one covers, too.

    Raises:
        ValueError: If tiles are larger than the images.
    """
    height, width = tile if isinstance(tile, tuple | list) else (tile, tile)
    if image_size is not None:
        sides = image_size if isinstance(image_size, tuple | list) else (image_size, image_size)
        if height > sides[0] or width > sides[1]:
            msg = f"tile must not be larger than image_size on either side, got tile={tile} and image_size={image_size}"
            raise ValueError(msg)
    stride = [max(1, round(side * (1 - overlap))) for side in (height, width)]
    return Tiler((height, width), stride)
