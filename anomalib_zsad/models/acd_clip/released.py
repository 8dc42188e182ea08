"""The checkpoints that the authors of ACD-CLIP published: plain tensors under their own names."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from anomalib_zsad.clip.restricted import RefusedError
from anomalib_zsad.clip.torch_file import plain_copy, read_torch_file

_BLOCK = r"image_adapter\.lora_adapters\.(\d+)\.conv_lora_blocks\.(\d+)"
_BRANCH = r"vision.mixed.\1.adapter.branches.\2"

_NAMES = {
    r"image_adapter\.m_i_w\.(\d+)\.i_w": r"vision.mixed.\1.weight",
    _BLOCK + r"\.lora_A": _BRANCH + ".down",
    _BLOCK + r"\.lora_B": _BRANCH + ".up",
    _BLOCK + r"\.conv_lora_A\.weight": _BRANCH + ".conv_down.weight",
    _BLOCK + r"\.conv_lora_B\.weight": _BRANCH + ".conv_up.weight",
    r"image_adapter\.lora_adapters\.(\d+)\.fusion_conv\.weight": r"vision.mixed.\1.adapter.fuse.weight",
    r"image_adapter\.seg_layer_norms\.(\d+)\.(weight|bias)": r"vision.segmentation.\1.norm.\2",
    r"image_adapter\.seg_proj\.(\d+)\.fc\.0\.(weight|bias)": r"vision.segmentation.\1.inner.\2",
    r"image_adapter\.seg_proj\.(\d+)\.fc\.2\.(weight|bias)": r"vision.segmentation.\1.outer.\2",
    r"image_adapter\.det_layer_norms\.(\d+)\.(weight|bias)": r"vision.detection.\1.norm.\2",
    r"image_adapter\.det_proj\.(\d+)\.fc\.0\.(weight|bias)": r"vision.detection.\1.inner.\2",
    r"image_adapter\.det_proj\.(\d+)\.fc\.2\.(weight|bias)": r"vision.detection.\1.outer.\2",
    r"image_adapter\.vision_text_gate\.(\d+)\.0\.(weight|bias)": r"vision.gates.\1.inner.\2",
    r"image_adapter\.vision_text_gate\.(\d+)\.2\.(weight|bias)": r"vision.gates.\1.outer.\2",
    r"text_adapter\.m_t_w\.(\d+)\.i_w": r"text.mixed.\1.weight",
    r"text_adapter\.layer_norms\.(\d+)\.(weight|bias)": r"text.norms.\1.\2",
    r"text_adapter\.lora_adapters\.(\d+)\.lora_A": r"text.mixed.\1.adapter.down",
    r"text_adapter\.lora_adapters\.(\d+)\.lora_B": r"text.mixed.\1.adapter.up",
}
"""What `ACDClipModel` calls the authors' tensors."""

_PARTS = ("image_adapter", "text_adapter")


def read_released(checkpoint: Path) -> dict[str, Tensor]:
    """Read a published checkpoint.

    Args:
        checkpoint: `{"epoch", "text_adapter": state dict, "image_adapter": state dict}`, as `torch.save` writes it.

    Returns:
        The tensors in float32, by the names of the parameters of `ACDClipModel`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is truncated or foreign, or asks for more than tensors.
    """
    content = _read(checkpoint)
    tensors = {}
    for part in _PARTS:
        state = content.get(part) if isinstance(content, dict) else None
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            msg = f"{checkpoint}: expected a checkpoint of ACD-CLIP with the tensors of {part}, found none"
            raise ValueError(msg)
        tensors.update({own_name(f"{part}.{key}", checkpoint): plain_copy(value) for key, value in state.items()})
    return tensors


def own_name(name: str, checkpoint: Path) -> str:
    """Return the name in `ACDClipModel` of one of the authors' tensors.

    Args:
        name: With its part in front: "text_adapter.layer_norms.0.weight".
        checkpoint: The file, for the message.

    Raises:
        ValueError: If ACD-CLIP has no such tensor.
    """
    for theirs, ours in _NAMES.items():
        if match := re.fullmatch(theirs, name):
            return match.expand(ours)
    msg = f"{checkpoint}: expected a checkpoint of ACD-CLIP, which has no tensor {name}"
    raise ValueError(msg)


def groups_in(tensors: dict[str, Tensor]) -> int:
    """Count the groups that tensors were trained with."""
    return sum(re.fullmatch(r"text\.norms\.\d+\.weight", name) is not None for name in tensors)


def _read(path: Path) -> Any:
    if not path.is_file():
        msg = f"{path}: expected a checkpoint published by the authors of ACD-CLIP, found none"
        raise FileNotFoundError(msg)
    try:
        return read_torch_file(path)
    except ValueError as error:
        reason = (
            f"reading it asks for {error}"
            if isinstance(error, RefusedError)
            else f"it is truncated or of another kind ({error})"
        )
        msg = f"{path}: expected a checkpoint of ACD-CLIP, plain tensors, but {reason}"
        raise ValueError(msg) from error
