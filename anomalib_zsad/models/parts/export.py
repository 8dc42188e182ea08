"""What is exported of a model, and how it is made smaller, through anomalib's export."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from anomalib.data import AnomalibDataModule
from anomalib.deploy import CompressionType
from torch import Tensor, nn
from torchmetrics import Metric

from anomalib_zsad.atomic import replace_together, unfinished_folder, whole_file
from anomalib_zsad.models.parts import quantisation
from anomalib_zsad.models.parts.compiling import run_as_written
from anomalib_zsad.models.parts.encoder import encoders_in
from anomalib_zsad.models.parts.exported_record import describe_graph
from anomalib_zsad.models.parts.installed import expect_installed
from anomalib_zsad.models.parts.runtime import OPSET, root_logger_kept
from anomalib_zsad.models.parts.tiling import Tileable
from anomalib_zsad.models.parts.validity import check_scores
from anomalib_zsad.seam.engine_export import CompressesItself

_PROBE = 224
"""Side in pixels of an image that is scored before an export."""


class ExportHooks(CompressesItself):
    """anomalib's export of a copy that holds what inference needs, its text encoded where no image changes it."""

    model: nn.Module

    def check_exportable(self) -> None:
        """Refuse to export what would not score.

        Raises:
            ValueError: If nothing was trained.
        """
        raise NotImplementedError

    def block_weights(self) -> list[Tensor]:
        """The matrices that eight bits are for: those of the frozen backbone."""
        return [weight for encoder in encoders_in(self.model) for weight in encoder.clip.block_weights()]

    def to_torch(self, export_root: Path | str, model_file_name: str = "model") -> Path:
        """Write a file for anomalib's `TorchInferencer`: a pickle, which needs this package to be read."""
        deployed = _deployable(self)
        return _whole(
            lambda folder: super(ExportHooks, deployed).to_torch(folder, model_file_name),  # type: ignore[misc]
            export_root,
        )

    def to_onnx(
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        **options: Any,
    ) -> Path:
        """Write an ONNX graph from RGB images of floats in [0, 1] to scores and labels.

        Args:
            export_root: A folder; the file goes to `weights/onnx` in it.
            model_file_name: Its name, without suffix.
            input_size: Height and width of every image that the graph will be given; any multiple of 1 pixel, since
                it resizes. None: images of any size, each resized exactly as in training.
            **options: Those of `torch.onnx.export`.
        """
        expect_installed("Export to ONNX", "onnx", "onnxscript")
        _check_tiles(self, input_size)
        deployed = _deployable(self)
        for part in deployed.model.modules():
            if isinstance(part, Tileable):
                part.tile_batch = None  # a graph is one pass
        for encoder in encoders_in(deployed.model):
            encoder.precision = "fp32"  # the runtime decides
        options.setdefault("opset_version", OPSET)

        def write(folder: Path) -> Path:
            path = super(ExportHooks, deployed).to_onnx(folder, model_file_name, input_size, **options)  # type: ignore[misc]
            _describe(path, deployed)
            return path

        return _whole(write, export_root)

    def to_openvino(
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        compression_type: CompressionType | None = None,
        datamodule: AnomalibDataModule | None = None,
        **options: Any,
    ) -> Path:
        """Write an OpenVINO graph.

        Args:
            export_root: A folder; the files go to `weights/openvino` in it.
            model_file_name: Their name, without suffix.
            input_size: As in `to_onnx`.
            compression_type: FP16 halves the file, INT8 stores the backbone's weights in eight bits, INT8_PTQ computes
                with them in eight bits.
            datamodule: For INT8_PTQ: its validation images set the ranges.
            **options: anomalib's `ov_kwargs`, `onnx_kwargs`, and for INT8_ACQ `metric`, `task` and `max_drop`.
        """
        expect_installed("Export to OpenVINO", "onnx", "onnxscript", "openvino")
        if compression_type not in {None, CompressionType.FP16}:
            expect_installed(f"Export to OpenVINO in {CompressionType(compression_type).name}", "nncf")
        if compression_type == CompressionType.INT8_PTQ and datamodule is None:
            msg = "INT8_PTQ needs images that set the ranges: expected a datamodule (--data), got none"
            raise ValueError(msg)
        with root_logger_kept():
            return _whole(
                lambda folder: super(ExportHooks, self).to_openvino(  # type: ignore[misc]
                    folder, model_file_name, input_size, compression_type, datamodule, **options
                ),
                export_root,
            )

    def compress(
        self,
        graph: Any,  # openvino.Model
        compression_type: CompressionType | None,
        datamodule: AnomalibDataModule | None,
    ) -> Any | None:
        """Store or compute the backbone in eight bits.

        anomalib would quantise the resizing and the cosines as well, and collate images of different sizes.
        """
        blocks = self.block_weights()
        if compression_type == CompressionType.INT8 and blocks:
            return quantisation.compress(graph, blocks)
        if compression_type == CompressionType.INT8_PTQ and datamodule is not None and blocks:
            return quantisation.quantise(graph, blocks, datamodule)
        return None


def _deployable(module: Any) -> Any:
    """Copy a model for inference: weights are shared, the text tower is left out where the text is constant."""
    module.check_exportable()
    memo: dict[int, Any] = {id(part): None for part in module.modules() if isinstance(part, Metric)}
    memo.update({id(part): None for part in (module.evaluator, module.visualizer)})
    memo.update({id(each): nn.Parameter(each.detach(), requires_grad=False) for each in module.parameters()})
    memo.update({id(each): each for each in module.buffers()})
    with torch.inference_mode(False), torch.no_grad():
        copy = deepcopy(module, memo).eval()
        run_as_written(copy)
        for encoder in encoders_in(copy.model):
            encoder.feature_cache = None  # of a training that did not come to its end
            encoder.tower = None
        copy.model.fold_text()
        check_scores(copy(torch.full((1, 3, _PROBE, _PROBE), 0.5)), SimpleNamespace(image_path=["a grey image"]))
    return copy


def _check_tiles(module: Any, input_size: tuple[int, int] | None) -> None:
    """Refuse a graph whose number of tiles would be open.

    Raises:
        ValueError: If images keep their size, and no size is given.
    """
    settings = (getattr(part, "hparams", {}) for part in module.modules())
    if input_size is None and any(each.get("tile") and each.get("image_size") is None for each in settings):
        msg = (
            "tile: a graph holds a fixed number of tiles, so expected the size of the images, --input_size [H,W] or "
            "--model.image_size, got neither"
        )
        raise ValueError(msg)


def _whole(write: Callable[[Path], Path], export_root: Path | str) -> Path:
    """Write a model beside its place: what a killed export leaves is the old one, none, or the new one."""
    root = Path(export_root)
    with unfinished_folder(root) as folder:
        made = write(folder)
        target = root / made.relative_to(folder)
        replace_together([*(each for each in made.parent.iterdir() if each != made), made], target.parent)
    return target


def _describe(path: Path, module: Any) -> None:
    """Write the record of a model into its graph, and drop what the exporter notes of every node.

    That names files of this machine, and is up to two fifths of all bytes.
    """
    import onnx

    content = onnx.load(path, load_external_data=False)
    for each in (*content.graph.node, *content.graph.value_info):
        del each.metadata_props[:]
    describe_graph(content, module)
    with whole_file(path) as temporary:
        onnx.save(content, temporary)
