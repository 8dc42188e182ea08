"""The vision tower as a graph of OpenVINO or ONNX Runtime, whose float32 is faster than PyTorch's on a CPU."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anomalib_zsad.models.parts.installed import expect_installed
from anomalib_zsad.seam.tensors import version_of

logger = logging.getLogger(__name__)

Runtime = Literal["torch", "openvino", "onnx"]

OPSET = 18
"""The ONNX exporter's own opset: a lower one is converted from it, which may fail."""

_Run = Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]]
_REASON = 300
"""Characters of a runtime's message that are shown."""
_PACKAGES = {"openvino": ["openvino"], "onnx": ["onnx", "onnxscript", "onnxruntime"]}


class TowerGraph:
    """Computes what a tower does outside of PyTorch, on the CPU and in float32, without gradients.

    The graph is made at the first images, for their height and width and any number of them, and anew where these or
    a weight differ. It is held in memory; copies and pickles of this object make their own.

    Args:
        runtime: What runs the graph.
    """

    def __init__(self, runtime: Literal["openvino", "onnx"]) -> None:
        self.runtime: Literal["openvino", "onnx"] = runtime
        self._lock = Lock()
        self._made_of: object = None
        self._run: _Run | None = None

    def __reduce__(self) -> Any:
        return TowerGraph, (self.runtime,)

    def __call__(
        self,
        images: Tensor,  # (B, 3, H, W)
        tower: Callable[[], nn.Module],
        sources: Sequence[Tensor],
    ) -> list[Tensor]:  # float32, the batch along the first axis
        """Compute the outputs of the tower.

        Args:
            images: On the CPU.
            tower: Makes the module whose outputs are computed, a tuple; called only where a graph is made.
            sources: Tensors that change where those in the tower do.

        Raises:
            ValueError: If the images are on another device.
            ImportError: If a package is missing, or does not work.
            RuntimeError: If the runtime cannot compute the tower.
        """
        if images.device.type != "cpu":
            msg = (
                f"runtime={self.runtime!r} computes on the CPU, got images on {images.device}: expected the CPU "
                "(--trainer.accelerator cpu, Engine(accelerator='cpu'), device='cpu'), or runtime='torch'"
            )
            raise ValueError(msg)
        made_of = tuple(images.shape[1:]), [(id(each), version_of(each)) for each in sources]
        with self._lock:
            if self._run is None or self._made_of != made_of:
                self._run = None  # its memory is free before the next one takes as much
                self._run, self._made_of = self._make(tower(), images.shape[1:]), made_of
            return [torch.from_numpy(each) for each in self._run(images.detach().float().contiguous().numpy())]

    def check_installed(self) -> None:
        """Check that the packages can be imported.

        Raises:
            ImportError: If one is missing, or does not work.
        """
        expect_installed(f"runtime={self.runtime!r}", *_PACKAGES[self.runtime])

    def _make(self, tower: nn.Module, shape: Sequence[int]) -> _Run:
        self.check_installed()
        start = time.perf_counter()
        open_in = _in_openvino if self.runtime == "openvino" else _in_onnxruntime
        try:
            run = open_in(_exported(tower, shape), shape)
        except Exception as error:  # exporters and runtimes fail in many ways
            reason = " ".join(str(error).split())[:_REASON]
            msg = f"runtime={self.runtime!r} cannot compute this vision tower ({reason}): expected runtime='torch'"
            raise RuntimeError(msg) from error
        words = "%s computes the vision tower in float32, for images of %d x %d pixels; its graph took %.0f s."
        logger.info(words, self.runtime, *shape[1:], time.perf_counter() - start)
        return run


@contextmanager
def root_logger_kept() -> Iterator[None]:
    """Undo what a conversion by OpenVINO that fails leaves: a root logger that hides all warnings."""
    root = logging.getLogger()
    level, filters, handlers = root.level, root.filters[:], root.handlers[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters, root.handlers = filters, handlers


def _exported(tower: nn.Module, shape: Sequence[int]) -> Any:
    """Trace a tower for one size of images, and any number of them."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        images = torch.zeros(2, *shape)  # of two: of one the number would be fixed
        return torch.export.export(tower, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))


def _in_openvino(program: Any, shape: Sequence[int]) -> _Run:
    import openvino

    with root_logger_kept():
        graph = openvino.convert_model(program)
    graph.reshape([-1, *shape])
    # In bfloat16, which OpenVINO chooses where a processor has it, maps differ by some hundredths.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(graph, "CPU", settings)
    return lambda images: compiled([images]).to_tuple()


def _in_onnxruntime(program: Any, shape: Sequence[int]) -> _Run:  # noqa: ARG001
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:  # a graph in memory ends at 2 GB
        path = Path(folder) / "tower.onnx"
        torch.onnx.export(program, (), path, dynamo=True, opset_version=OPSET, external_data=True, verbose=False)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda images: session.run(None, {given.name: images})
