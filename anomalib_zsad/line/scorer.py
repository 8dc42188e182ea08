"""One call for a model, whatever holds it: a checkpoint, a graph of ONNX or OpenVINO, a file of torch."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from anomalib.deploy import TorchInferencer
from numpy.typing import NDArray
from torch import Tensor

from anomalib_zsad.clip.digest import hash_file
from anomalib_zsad.evaluation.calibration import Calibration
from anomalib_zsad.evaluation.decisions import Decision, decision_of
from anomalib_zsad.evaluation.exported import KEY, ExportedRecord, after_post_processing
from anomalib_zsad.functional.devices import device_named

Outputs = Mapping[str, Any]
"""What anomalib's models return, by name, of a batch of one image."""

_DIGITS = 12
_REASON = 200
"""Characters of a runtime's message that are shown; its end is the most specific."""


@dataclass(frozen=True)
class Scored:
    """The result of a model for one image."""

    score: float
    """0.5 is the threshold."""
    is_anomalous: bool | None
    """None: the model decides nothing."""
    p_value: float | None
    """None: the model is not calibrated."""
    anomaly_map: NDArray[np.float32]  # (h, w), 0.5 is the threshold of pixels
    """Of the model's size, not the image's."""
    mask: NDArray[np.bool_] | None  # (h, w)

    @property
    def label(self) -> Decision | None:
        """The decision in a word."""
        return None if self.is_anomalous is None else decision_of(self.is_anomalous)


class Scorer:
    """A model that scores one image at a time; several threads may share it.

    Args:
        run: Gives the outputs for images (1, 3, H, W) of floats in [0, 1].
        name: What the model is called.
        digest: Of all that the scores depend on.
        calibration: With scores as `run` gives them.
        input_size: Height and width that images must have, where the model takes no others.
    """

    def __init__(
        self,
        run: Callable[[NDArray[np.float32]], Outputs],
        name: str,
        digest: str,
        calibration: Calibration | None = None,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        self.name, self.digest, self.calibration, self.input_size = name, digest[:_DIGITS], calibration, input_size
        self._run, self._lock = run, Lock()

    @classmethod
    def of_model(cls, model: Any, name: str, digest: str, device: str = "auto") -> "Scorer":
        """Score with a model of this package.

        Args:
            model: Trained, or with references.
            name: As in `Scorer`.
            digest: As in `Scorer`.
            device: As torch names it; "auto": the accelerator, where there is one.

        Raises:
            ValueError: If the model is not trained, or there is no such device.
        """
        model = model.to(device_named(device)).eval()
        model.check_exportable()
        calibration = after_post_processing(getattr(model.post_processor, "calibration", None), model.post_processor)
        return cls(lambda images: _outputs_of(model, images), name, digest, calibration)

    @classmethod
    def open(cls, path: Path, device: str = "auto") -> "Scorer":
        """Score with an exported model.

        Args:
            path: A graph of ONNX (.onnx) or OpenVINO (.xml), or a file of torch (.pt). The last is a pickle, which
                runs code: it is read only where the environment has TRUST_REMOTE_CODE=1.
            device: "auto", or as the runtime names it: cpu, cuda, GPU.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no exported model, or there is no such device.
        """
        if not path.is_file():
            msg = f"{path}: expected an exported model or a checkpoint, found no such file"
            raise FileNotFoundError(msg)
        openers = {".onnx": _open_onnx, ".xml": _open_openvino, ".pt": _open_torch}
        if path.suffix not in openers:
            msg = f"{path}: expected a model with the suffix {', '.join(openers)}, got {path.suffix!r}"
            raise ValueError(msg)
        try:
            return openers[path.suffix](path, device)
        except ImportError as error:
            msg = f"{path} needs {error.name}: pip install 'anomalib-zsad[export]'"
            raise ValueError(msg) from error
        except (ValueError, OSError):
            raise
        except Exception as error:  # runtimes fail in many ways on damaged and foreign files
            reason = " ".join(str(error).split())[-_REASON:]
            msg = f"{path}: expected an exported model, but it cannot be read ({reason})"
            raise ValueError(msg) from error

    def __call__(
        self,
        image: Tensor,  # (3, H, W), RGB in [0, 1]
    ) -> Scored:
        """Score an image.

        Raises:
            ValueError: If it has another size than the model takes, or scores are no numbers.
        """
        size = tuple(image.shape[-2:])
        if self.input_size not in {None, size}:
            msg = f"expected images of {_as_size(self.input_size)} pixels, as exported for, got {_as_size(size)}"
            raise ValueError(msg)
        with self._lock:
            found = self._run(np.ascontiguousarray(image[None].numpy()))
        score, anomaly_map = float(np.ravel(found["pred_score"])[0]), _plane(found["anomaly_map"]).astype(np.float32)
        if not np.isfinite(score) or not np.isfinite(anomaly_map).all():
            msg = "expected scores that are numbers, got others: weights are damaged, or numbers overflow"
            raise ValueError(msg)
        label, mask = found.get("pred_label"), found.get("pred_mask")
        return Scored(
            score=score,
            is_anomalous=None if label is None else bool(np.ravel(label)[0]),
            p_value=None if self.calibration is None else self.calibration.p_values(torch.tensor([score])).item(),
            anomaly_map=anomaly_map,
            mask=None if mask is None else _plane(mask).astype(bool),
        )


def digest_of(files: Sequence[Path], *words: str) -> str:
    """Digest files and what else scores depend on."""
    parts = [*map(hash_file, files), *words]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _open_onnx(path: Path, device: str) -> Scorer:
    import onnxruntime

    known = {name.removesuffix("ExecutionProvider").lower(): name for name in onnxruntime.get_available_providers()}
    _check_device(device, known)
    providers = list(known.values()) if device == "auto" else [known[device.lower()]]
    session = onnxruntime.InferenceSession(path, providers=providers)
    names, (given, *_) = [each.name for each in session.get_outputs()], session.get_inputs()

    def run(images: NDArray[np.float32]) -> Outputs:
        return dict(zip(names, session.run(names, {given.name: images}), strict=True))

    entry = session.get_modelmeta().custom_metadata_map.get(KEY)
    return Scorer(run, path.name, digest_of(_with_weights(path)), _calibration_in(entry), _fixed(given.shape))


def _open_openvino(path: Path, device: str) -> Scorer:
    import openvino

    core = openvino.Core()
    _check_device(device, core.available_devices)
    graph = core.read_model(path)
    # In bfloat16, which OpenVINO chooses where a processor has it, maps differ by some hundredths.
    compiled = core.compile_model(graph, device.upper(), {"INFERENCE_PRECISION_HINT": "f32"})
    names = [each.any_name for each in compiled.outputs]

    def run(images: NDArray[np.float32]) -> Outputs:
        return dict(zip(names, compiled([images]).to_tuple(), strict=True))

    place = ["framework", KEY]
    entry = graph.get_rt_info(place).astype(str) if graph.has_rt_info(place) else None
    shape = [each.get_length() if each.is_static else None for each in graph.input(0).partial_shape]
    return Scorer(run, path.name, digest_of(_with_weights(path)), _calibration_in(entry), _fixed(shape))


def _open_torch(path: Path, device: str) -> Scorer:
    model = TorchInferencer(path, device=device).model
    post_processor: Any = model.post_processor
    calibration = after_post_processing(getattr(post_processor, "calibration", None), post_processor)
    return Scorer(lambda images: _outputs_of(model, images), path.name, digest_of([path]), calibration)


def _check_device(device: str, known: Iterable[str]) -> None:
    names = ["auto", *(each.lower() for each in known)]
    if device.lower() not in names:
        msg = f"device: expected {', '.join(names)}, got {device!r}"
        raise ValueError(msg)


@torch.inference_mode()
def _outputs_of(model: Any, images: NDArray[np.float32]) -> Outputs:
    device = next(model.parameters()).device
    result = model(torch.from_numpy(images).to(device))
    return {name: value.float().cpu().numpy() for name, value in result._asdict().items() if value is not None}


def _calibration_in(entry: str | None) -> Calibration | None:
    return None if entry is None else ExportedRecord.of_text(entry).calibration


def _with_weights(path: Path) -> list[Path]:
    """A graph and the file beside it that holds its weights, where there is one."""
    beside = [path.with_suffix(".bin"), path.with_name(f"{path.name}.data")]
    return [path, *(each for each in beside if each.is_file())]


def _fixed(shape: Sequence[Any]) -> tuple[int, int] | None:
    """Height and width of a graph's input, where it takes no others."""
    height, width = shape[-2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _plane(values: Any) -> NDArray[Any]:  # (1, 1, h, w) or (1, h, w) -> (h, w)
    return np.asarray(values).reshape(np.shape(values)[-2:])


def _as_size(height_width: Any) -> str:
    height, width = height_width
    return f"{width} x {height}"
