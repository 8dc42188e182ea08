"""The pre-processing of an ensemble: none for images, since every member has its own."""

from typing import Any, cast

from anomalib.pre_processing import PreProcessor
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform
from torchvision.transforms.v2 import functional as F


class RawImages(PreProcessor):
    """Leaves images unchanged, and resizes masks to the size of the maps.

    Args:
        map_size: Height and width of the maps in pixels; None until it is known.
    """

    def __init__(self, map_size: tuple[int, int] | None) -> None:
        super().__init__(ResizeMasks(map_size))
        self.export_transform = None

    def checkpoint_config(self) -> dict[str, Any]:
        """Return the size of the maps."""
        size = cast("ResizeMasks", self.transform).map_size
        return {"map_size": None if size is None else list(size)}

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        """Restore the size of the maps."""
        size = config["map_size"]
        cast("ResizeMasks", self.transform).map_size = None if size is None else tuple(size)


class ResizeMasks(Transform):
    """Resizes masks, with the nearest pixel, and leaves images unchanged.

    Args:
        map_size: Height and width in pixels; None leaves masks unchanged, too.
    """

    def __init__(self, map_size: tuple[int, int] | None) -> None:
        super().__init__()
        self.map_size = map_size

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ARG002
        """Resize masks."""
        if self.map_size is None or not isinstance(inpt, tv_tensors.Mask):
            return inpt
        return F.resize(inpt, list(self.map_size))
