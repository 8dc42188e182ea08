"""Exported graphs in ONNX Runtime, for `gpu.py`: images and scores lie on the device, as those of PyTorch do."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor


def check_provider(device: torch.device) -> None:
    """Refuse to export a model that ONNX Runtime could not run on a device.

    Raises:
        ImportError: If it is not installed.
        RuntimeError: If it has no provider for the device.
    """
    import onnxruntime

    if _provider(device) not in onnxruntime.get_available_providers():
        raise RuntimeError(f"onnxruntime has no {_provider(device)} here")


def session_of(model: Any, size: int, device: torch.device, tf32: bool) -> Any:
    """Export a model for square images, and load the graph on a device. The model is on the CPU afterwards.

    Raises:
        RuntimeError: If ONNX Runtime cannot use the device.
    """
    import onnxruntime

    options = {"device_id": device.index or 0, "use_tf32": int(tf32)} if device.type == "cuda" else {}
    model = model.cpu()
    model.trained_on = ["nothing"]
    with TemporaryDirectory() as folder:
        path = model.to_onnx(Path(folder), input_size=(size, size))
        session = onnxruntime.InferenceSession(path, providers=[(_provider(device), options)])
    if session.get_providers()[0] != _provider(device):  # it goes on with another, whose libraries it finds
        raise RuntimeError(f"onnxruntime could not use its {_provider(device)}")
    return session


def bound(
    session: Any,
    images: Tensor,  # (B, 3, H, W) float32, contiguous, on the device of the session
) -> Callable[[], None]:
    """Return a call that scores images, which have to be kept until then, and waits for the scores."""
    import numpy as np

    place, binding = (images.device.type, images.device.index or 0), session.io_binding()
    binding.bind_input(session.get_inputs()[0].name, *place, np.float32, tuple(images.shape), images.data_ptr())
    for each in session.get_outputs():
        binding.bind_output(each.name, *place)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)  # the session has a stream of its own

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run


def _provider(device: torch.device) -> str:
    return "CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider"
