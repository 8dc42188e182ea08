"""The pre-processing of an ensemble: none, since every member has its own."""

from typing import Any, cast

from anomalib.pre_processing import PreProcessor
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform
from torchvision.transforms.v2 import functional as F


class RawImages(PreProcessor):
    """Leaves images as they are, and brings masks to the size of the maps.

    Args:
        map_size: Height and width of the maps in pixels; None as long as no member tells it.
    """

    def __init__(self, map_size: tuple[int, int] | None) -> None:
        super().__init__(ResizeMasks(map_size))
        self.export_transform = None

    def checkpoint_config(self) -> dict[str, Any]:
        """Give the size of the maps."""
        size = cast("ResizeMasks", self.transform).map_size
        return {"map_size": None if size is None else list(size)}

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        """Take over the size of the maps."""
        size = config["map_size"]
        cast("ResizeMasks", self.transform).map_size = None if size is None else tuple(size)


class ResizeMasks(Transform):
    """Resizes masks to the nearest pixel, and nothing else.

    Args:
        map_size: Height and width in pixels; None leaves masks as well.
    """

    def __init__(self, map_size: tuple[int, int] | None) -> None:
        super().__init__()
        self.map_size = map_size

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:  # noqa: ARG002
        """Resize what is a mask."""
        if self.map_size is None or not isinstance(inpt, tv_tensors.Mask):
            return inpt
        return F.resize(inpt, list(self.map_size))
