"""The short call: images as they are at hand, scored as `Engine.predict` scores them, without trainer or files."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal, NamedTuple, overload

import torch
from anomalib.data import ImageBatch
from anomalib.post_processing import PostProcessor
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torchvision.transforms.v2 import Resize

from anomalib_zsad import arguments as arg
from anomalib_zsad.data.adopting import resizes_of
from anomalib_zsad.data.given_images import GivenImage, given_images, is_one_image
from anomalib_zsad.evaluation.decisions import decision_of
from anomalib_zsad.evaluation.detection import Detection, pixels_of
from anomalib_zsad.evaluation.drift import DriftWarning
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.functional.devices import device_named
from anomalib_zsad.models.parts.encoder import encoders_in
from anomalib_zsad.models.parts.validity import check_scores
from anomalib_zsad.printing import printable
from anomalib_zsad.seam.trainers import without_trainer

logger = logging.getLogger(__name__)


_READERS = 4
"""Threads that read images while the model scores those before them."""


class Detecting:
    """The short call `detect` of a model; it stands before `AnomalibModule` among the bases."""

    @overload
    def detect(
        self,
        images: Any,
        batch_size: arg.Images = ...,
        device: str | torch.device = ...,
        *,
        stream: Literal[True],
        progress: bool = ...,
    ) -> Iterator[Detection]: ...

    @overload
    def detect(
        self,
        images: Any,
        batch_size: arg.Images = ...,
        device: str | torch.device = ...,
        *,
        stream: Literal[False] = ...,
        progress: bool = ...,
    ) -> Any: ...

    @arg.checked
    def detect(
        self,
        images: Any,
        batch_size: arg.Images = 8,
        device: str | torch.device = "auto",
        *,
        stream: bool = False,
        progress: bool = True,
    ) -> Any:
        """Score images as they are at hand, as `Engine.predict` does, without an engine or files of results.

        Args:
            images: A path, a PIL image, an array ((H, W) or (H, W, 3): uint8, uint16, or floats in [0, 1]) or a tensor
                ((H, W), (1, H, W) or (3, H, W)). For many: a folder, a batch, or a list of any of these.
            batch_size: Images that are scored together.
            device: Where to compute. "auto": where the model is, unless that is the CPU and there is an accelerator.
                The model returns to where it was; `model.to("cuda")` beforehand saves many calls the way.
            stream: Return an iterator that reads and scores as it goes, for more images than fit into memory.
            progress: Show a bar where there is more than one batch, unless the results are streamed.

        Returns:
            A `Detection` of a single image; a list of them, in order, of a folder, a batch or a list. In a list, an
            image that cannot be read has a result with an `error`, and is reported as a warning.

        Raises:
            FileNotFoundError: There is no such file or folder.
            OSError: The single image cannot be read.
            TypeError: The images are of another type.
            ValueError: An array is of another shape, type or range; the model is not trained; there is no such device.

        Example:
            >>> from anomalib_zsad import AFClip
            >>> model = AFClip(weights="released/visa")  # doctest: +SKIP
            >>> model.detect("part.png").save("out.png")  # doctest: +SKIP
        """
        given, is_one = given_images(images), is_one_image(images)
        check_ready(self)
        found = detections(self, given, batch_size, device_for(self, device), is_one)
        if stream:
            return found
        results = list(with_bar(found, len(given)) if progress and len(given) > batch_size else found)
        return results[0] if is_one else results


def detections(
    model: Any,  # a Detector
    given: Sequence[GivenImage],
    batch_size: int,
    device: torch.device,
    is_one: bool,
) -> Iterator[Detection]:
    """Score images, a batch at a time; no more than two batches are held.

    Args:
        model: Ready to predict. It is moved to the device, and back at the end.
        given: The images.
        batch_size: Images that are scored together, where the model's pre-processor brings them to one size.
        device: Where to compute.
        is_one: Whether an image that cannot be read is an error. Of several, it is reported and has a result with
            the error.

    Yields:
        The images' results, in their order.

    Raises:
        OSError: The single image cannot be read.
    """
    resize = next(iter(resizes_of(model.pre_processor)), None)
    home, drift = model.device, DriftWarning()
    drift.on_predict_start(None, model)  # type: ignore[arg-type]  # the trainer is not used
    try:
        if device != home:  # going through all modules takes longer than a small image
            model.to(device)
        for images in _read_ahead(given, batch_size if resize else 1, resize):
            if is_one and images[0].error is not None:
                raise images[0].error
            readable = [image for image in images if image.error is None]
            scored = iter(_scored(model, readable, drift) if readable else ())
            yield from (next(scored) if image.error is None else _unreadable(image) for image in images)
    finally:
        if device != home:
            model.to(home)


def with_bar(found: Iterator[Detection], total: int) -> Iterator[Detection]:
    """Show how far it is, on the terminal or in the notebook."""
    console = Console(stderr=True)
    if console.is_terminal or console.is_jupyter:
        yield from track(found, "Detecting", total, console=console, transient=True)
    else:
        yield from found


def check_ready(model: Any) -> None:
    """Raise the error that keeps a model from predicting, as a trainer does before a prediction."""
    with without_trainer(model):
        model.on_predict_start()


def device_for(
    model: Any,
    device: str | torch.device,
) -> torch.device:
    """Choose where to compute.

    Args:
        model: Stays where it is if that is no CPU, or if a runtime of the CPU computes its tower.
        device: "auto" for the accelerator of this machine, where there is one; or a device.

    Raises:
        ValueError: If there is no such device.
    """
    stays = model.device.type != "cpu" or any(encoder.tower is not None for encoder in encoders_in(model.model))
    return model.device if device == "auto" and stays else device_named(device)


class _Read(NamedTuple):
    """An image that was read, or the reason why it was not."""

    given: GivenImage
    image: Tensor | None = None  # (3, h, w), of the model's size
    size: tuple[int, int] = (0, 0)
    pixels: Any = None
    error: OSError | None = None


def _read_ahead(given: Sequence[GivenImage], batch_size: int, resize: Resize | None) -> Iterator[list[_Read]]:
    """Yield batches, each of which is read while the one before is scored."""
    with ThreadPoolExecutor(min(_READERS, len(given)), "images") as readers:
        left = iter(given)
        reading: list[Future[_Read]] = []
        while True:
            ahead = [readers.submit(_read, image, resize) for image in islice(left, batch_size)]
            if reading:
                yield [each.result() for each in reading]
            if not ahead:
                return
            reading = ahead


def _read(given: GivenImage, resize: Resize | None) -> _Read:
    try:
        image = given.read()
    except OSError as error:
        return _Read(given, error=error)
    height, width = image.shape[-2:]
    pixels = pixels_of(image) if given.path is None else None  # the caller's own may change
    return _Read(given, resize(image) if resize else image, (height, width), pixels)


def _unreadable(read: _Read) -> Detection:
    logger.warning("Not scored: %s", printable(read.error))
    return Detection(read.given.path, label="unreadable", error=str(read.error))


def _scored(model: Any, images: Sequence[_Read], drift: DriftWarning) -> Iterator[Detection]:
    stacked = torch.stack([image.image for image in images if image.image is not None])
    batch = ImageBatch(image=stacked.to(model.device), image_path=[image.given.name for image in images])
    post_processor = model.post_processor
    with torch.inference_mode(), without_trainer(model), _evaluating(model):
        if model.pre_processor is not None:
            model.pre_processor.on_predict_batch_start(None, model, batch, 0)
        batch = model.predict_step(batch, 0)
        check_scores(batch, batch)
        raw = batch.pred_score.tolist()
        drift.on_predict_batch_end(None, model, None, batch, 0)  # type: ignore[arg-type]
        if isinstance(post_processor, PostProcessor):
            post_processor.post_process_batch(batch)
    thresholds = _thresholds(post_processor)
    scores, labels, p_values = (_values(batch, name) for name in ("pred_score", "pred_label", "p_value"))
    maps = None if batch.anomaly_map is None else batch.anomaly_map.float().cpu()
    for row, image in enumerate(images):
        yield Detection(
            image.given.path,
            score=scores[row],
            label=None if thresholds["threshold"] is None else decision_of(labels[row]),
            p_value=p_values[row] if p_values else None,
            raw_score=raw[row],
            **thresholds,
            _map=None if maps is None else maps[row].reshape(maps.shape[-2:]),
            _size=image.size,
            _pixels=image.pixels,
        )


def _thresholds(post_processor: Any) -> dict[str, Any]:
    names = ("threshold", "raw_threshold", "_mask_above")
    if not isinstance(post_processor, PostProcessor) or not post_processor.enable_thresholding:
        return dict.fromkeys(names)
    raw = post_processor.raw_threshold("image") if isinstance(post_processor, MonotonePostProcessor) else None
    values = (post_processor.normalized_image_threshold, raw, post_processor.normalized_pixel_threshold)
    return {name: None if value is None else float(value) for name, value in zip(names, values, strict=True)}


def _values(batch: Any, name: str) -> list[Any]:
    values = getattr(batch, name, None)
    return [] if values is None else values.tolist()


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
