"""Measures one cell of `gpu.py`: models that are built once, calls between events of the GPU, peaks of its memory."""

import gc
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from gpu import Cell, Settings
from gpu_onnx import bound, check_provider, session_of
from measuring import bare_tower
from torch import Tensor, nn

TYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
SHOTS = 4
MEASURED = 1.0
"""Seconds that the calls of a cell take together, where three calls do not take longer."""
LEAST, MOST = 3, 50
"""Calls."""

Run = Callable[[], object]


class Bench:
    """Builds models and measures cells; it keeps the last model, and the weights of the backbone.

    Args:
        settings: What all cells have in common.
    """

    def __init__(self, settings: Settings) -> None:
        from anomalib_zsad.clip.loading import load_shared

        self.settings = settings
        self.device = torch.device(settings.device)
        self.on_gpu = self.device.type == "cuda"
        self._weights = load_shared(settings.backbone, None)
        self._tower: nn.Module | None = None
        self._held: tuple[Any, Any] = (None, None)
        self._session: tuple[str, Any] = ("", None)
        self._hooks: list[Any] = []

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Measure a cell."""
        if cell.part == "onnx":
            return self._onnx(cell)
        model = self._model(cell.method, cell.part == "compiled", cell.is_training)
        run, inside = (self._training if cell.is_training else self._inference)(model, cell)
        began = time.perf_counter()
        for _ in range(2):  # the first encodes text and compiles, the second has Adam's state
            run()
        self._wait()
        warmed = time.perf_counter()
        run()
        self._wait()
        calls = self._calls(time.perf_counter() - warmed)
        inside.clear()
        self._forget_peak()
        marks = [self._mark()]
        for _ in range(calls):
            run()
            marks.append(self._mark())
        self._wait()
        seconds = statistics.median(self._between(*each) for each in pairwise(marks))
        encoded = statistics.median(self._between(*each) for each in inside) if inside else None
        return {
            "seconds": seconds,
            "images_per_second": cell.batch / seconds,
            "outside": None if encoded is None else 1 - encoded / seconds,
            "peak_mib": torch.cuda.max_memory_allocated(self.device) / 2**20 if self.on_gpu else None,
            "calls": calls,
            "first_two_calls": warmed - began,
        }

    def recover(self) -> None:
        """Free the memory of a cell that failed; raises where the GPU can no longer be used."""
        self._drop()
        self._wait()

    def _model(self, *key: Any) -> Any:
        """Build a model unless it is the last one; the key: a method, whether it is compiled, whether it is trained."""
        if self._held[0] != key:
            self._drop()
            self._held = (key, self._built(*key[:2]))
        return self._held[1]

    def _drop(self) -> None:
        """Free the device of everything."""
        if self._held[0] is not None and self._held[0][1]:
            torch.compiler.reset()
        self._held, self._session = (None, None), ("", None)
        for module in (self._weights, self._tower):
            if module is not None:
                module.cpu()
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()

    def _built(self, method: str, is_compiled: bool) -> Any:
        torch.manual_seed(0)
        if method == "open_clip":
            self._tower = self._tower or bare_tower(self.settings.backbone, self.settings.size)
            tower = self._tower.to(self.device)
            return torch.compile(tower) if is_compiled else tower
        import anomalib_zsad

        arguments = {"compile": True} if is_compiled else {}
        kind = getattr(anomalib_zsad, method.removesuffix("+"))
        model = kind(self.settings.backbone, pretrained=None, image_size=self.settings.size, **arguments)
        model = model.to(self.device)
        if method.endswith("+"):
            model.model.remember(self._images(SHOTS).split(1))
        return model

    def _inference(self, model: Any, cell: Cell) -> tuple[Run, list[Any]]:
        images, inside = self._images(cell.batch), []
        network = model if cell.method == "open_clip" else model.eval().model
        if cell.method != "open_clip":
            inside = self._watched(network.encoder)

        @torch.inference_mode()
        def run() -> None:
            with self._precision(cell):
                network(images)

        return run, inside

    def _training(self, model: Any, cell: Cell) -> tuple[Run, list[Any]]:
        from anomalib_zsad.data.item import CategoryBatch

        side = self.settings.size
        mask = torch.zeros(cell.batch, side, side, device=self.device)
        mask[:, : side // 5, : side // 5] = 1
        batch = CategoryBatch(
            image=self._images(cell.batch),
            gt_label=torch.ones(cell.batch, dtype=torch.int64, device=self.device),
            gt_mask=mask,
            category=["bottle"] * cell.batch,
        )
        made = model.train().configure_optimizers()
        optimizer = made["optimizer"] if isinstance(made, dict) else made
        scaler = torch.amp.GradScaler(self.device.type, enabled=cell.precision == "fp16")

        def run() -> None:
            optimizer.zero_grad()
            with self._precision(cell):
                loss = model.loss_terms(batch)["loss"]
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            model.on_before_optimizer_step(optimizer)
            scaler.step(optimizer)
            scaler.update()

        return run, self._watched(model.model.encoder)

    def _onnx(self, cell: Cell) -> dict[str, Any]:
        """Time an exported graph by the clock: its run ends with its scores there."""
        if self._session[0] != cell.method:
            check_provider(self.device)
            model = self._model(cell.method, False, False)
            session = session_of(model, self.settings.size, self.device, self.settings.tf32)
            self._drop()
            self._session = (cell.method, session)
        images = self._images(cell.batch)
        run = bound(self._session[1], images)
        for _ in range(2):
            run()
        taken: list[float] = []
        while len(taken) < LEAST or (sum(taken) < MEASURED and len(taken) < MOST):
            began = time.perf_counter()
            run()
            taken.append(time.perf_counter() - began)
        seconds = statistics.median(taken)
        return {"seconds": seconds, "images_per_second": cell.batch / seconds, "calls": len(taken)}

    def _images(self, count: int) -> Tensor:
        return torch.randn(count, 3, self.settings.size, self.settings.size, device=self.device)

    def _precision(self, cell: Cell) -> Any:
        kind = TYPES[cell.precision]
        return torch.autocast(self.device.type, kind, enabled=kind is not None)

    def _watched(self, encoder: nn.Module) -> list[Any]:
        """Mark the beginning and the end of every call of a module, from now on."""
        spans: list[Any] = []
        for hook in self._hooks:
            hook.remove()
        self._hooks = [
            encoder.register_forward_pre_hook(lambda *_: spans.append([self._mark()])),
            encoder.register_forward_hook(lambda *_: spans[-1].append(self._mark())),
        ]
        return spans

    def _calls(self, once: float) -> int:
        return min(MOST, max(LEAST, int(MEASURED / once)))

    def _mark(self) -> Any:
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, first: Any, second: Any) -> float:
        return first.elapsed_time(second) / 1000 if self.on_gpu else second - first

    def _wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def _forget_peak(self) -> None:
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
