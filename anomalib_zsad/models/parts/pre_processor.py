"""Pre-processing for CLIP: the same resize and normalisation in training and in exported graphs."""

from collections.abc import Callable
from functools import partial
from typing import Any

from anomalib.pre_processing import PreProcessor
from torch import Tensor
from torchvision.transforms.v2 import Compose, InterpolationMode, Normalize, Resize, Transform

from anomalib_zsad.clip.named import CLIP_LOOK, Look
from anomalib_zsad.functional.resizing import resize_bicubic, resize_bilinear

_EXACT = {"bicubic": resize_bicubic, "bilinear": resize_bilinear}


class ClipPreProcessor(PreProcessor):
    """anomalib's pre-processor with an antialiased resize in exported graphs, too.

    anomalib disables antialiasing for export, which changes the scores of images larger than the model's input.

    Args:
        transform: Applied to images of floats in [0, 1].
    """

    look: Look = CLIP_LOOK
    """How sizes that are set from now on resize and normalise: as the backbone was trained."""
    train_transform: Transform | None
    """What to do with training images, where that is something else: those that are tiled are trained on as a whole."""

    def __init__(self, transform: Transform) -> None:
        super().__init__(transform)
        self.train_transform = None
        self.export_transform = _with_antialias(transform, self.export_transform)

    @classmethod
    def of_size(cls, image_size: int | tuple[int, int] | None, look: Look = CLIP_LOOK) -> "ClipPreProcessor":
        """Resize to a height and width in pixels, with antialias, and normalise.

        Args:
            image_size: One number where they are the same; None: images keep their size.
            look: The interpolation, and the colours.
        """
        normalize = Normalize(mean=list(look.mean), std=list(look.std))
        if image_size is None:
            return cls(Compose([normalize]))
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        resize = Resize(size, interpolation=InterpolationMode(look.interpolation), antialias=True)
        return cls(Compose([resize, normalize]))

    def resize_to(self, image_size: int | tuple[int, int] | None) -> None:
        """Replace the transform by that of `of_size`."""
        other = self.of_size(image_size, self.look)
        self.transform, self.export_transform = other.transform, other.export_transform

    def train_at(self, image_size: int | tuple[int, int] | None) -> None:
        """Resize training images to another size from now on; None: as all images."""
        self.train_transform = None if image_size is None else self.of_size(image_size, self.look).transform

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Transform a batch of training images."""
        if self.train_transform is None:
            super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        else:
            batch.image, batch.gt_mask = self.train_transform(batch.image, batch.gt_mask)

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        """Restore the transform of a checkpoint."""
        super().load_checkpoint_config(config)
        self.export_transform = _with_antialias(self.transform, self.export_transform)


def exactly(
    pre_processor: Any,  # a PreProcessor, or any module
) -> Callable[[Tensor], Tensor]:
    """Return the transform that a pre-processor applies in training, in operations that can be exported."""
    if not isinstance(pre_processor, PreProcessor):
        return pre_processor or (lambda images: images)
    return _with_antialias(pre_processor.transform, pre_processor.export_transform) or (lambda images: images)


def _with_antialias(transform: Any, exported: Any) -> Any:
    if isinstance(transform, Compose):
        return Compose(list(map(_with_antialias, transform.transforms, exported.transforms)))
    if isinstance(transform, Resize) and transform.antialias and len(transform.size) == 2:
        # torchvision's default is a string, not an InterpolationMode.
        exact = _EXACT.get(getattr(transform.interpolation, "value", transform.interpolation))
        return exported if exact is None else partial(exact, size=tuple(transform.size))
    return exported
