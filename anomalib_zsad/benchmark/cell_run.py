"""How one cell of a benchmark comes to its result."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from anomalib.data import AnomalibDataModule
from anomalib.engine import Engine

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.benchmark.devices import Devices
from anomalib_zsad.benchmark.grid import Benchmark, Cell, Entry, build_model
from anomalib_zsad.benchmark.store import CASES, Store
from anomalib_zsad.benchmark.unit_scores import UnitScores
from anomalib_zsad.data.all_categories import AllCategories
from anomalib_zsad.data.auxiliary import Auxiliary
from anomalib_zsad.data.parts import parts_of
from anomalib_zsad.evaluation.case_files import save_cases
from anomalib_zsad.evaluation.cases import CaseKeeper
from anomalib_zsad.evaluation.evaluator import ZeroShotEvaluator
from anomalib_zsad.evaluation.table import MEAN


class CellRunner:
    """Runs cells; the last model is kept, so that one backbone serves all that use it.

    Args:
        benchmark: The grid.
        folder: Where trainings and results go.
        engine: Arguments of anomalib's engine, such as `accelerator`.
    """

    def __init__(self, benchmark: Benchmark, folder: Path, **engine: Any) -> None:
        self.benchmark = benchmark
        self.folder = folder
        self._engine_arguments = {"logger": False, **engine}
        self._devices = Devices(benchmark.launcher.jobs)
        self._device: int | list[int] = 1
        self._last_model: Any = None

    def __call__(self, cell: Cell) -> pd.DataFrame:
        """Test one cell; its best and worst cases are kept beside its result.

        Returns:
            A row for every category (`evaluation.table`), without their mean.
        """
        entry = self.benchmark.models[cell.model]
        test, keeper = self._zero_shot if entry.is_zero_shot else self._per_category, CaseKeeper()
        with self._devices.one(self._engine_arguments.get("accelerator", "auto")) as self._device:
            table = test(cell, entry, keeper)
        save_cases(Store(self.folder).folder_of(cell) / CASES, keeper.shown())
        return table[table["category"] != MEAN]

    def _zero_shot(self, cell: Cell, entry: Entry, keeper: CaseKeeper) -> Any:
        training = self.benchmark.training_of(cell)
        checkpoint = None if training is None else self._trained(training, cell, entry)
        model: Any = build_model(entry, cell, visualizer=False)
        model.evaluator.watch = keeper.add
        target = self._target(cell)
        tested = AllCategories(target, **self.benchmark.plumbing)
        self._engine(Store(self.folder).folder_of(cell)).test(model, datamodule=tested, ckpt_path=checkpoint)
        self._last_model = model
        return model.evaluator.table

    def _per_category(self, cell: Cell, entry: Entry, keeper: CaseKeeper) -> pd.DataFrame:
        part = parts_of(self._target(cell))[str(cell.category)]
        part.num_workers, part.eval_batch_size = self.benchmark.num_workers, self.benchmark.eval_batch_size
        evaluator = ZeroShotEvaluator()
        evaluator.watch = keeper.add
        model = build_model(entry, cell, visualizer=False, post_processor=UnitScores(), evaluator=evaluator)
        self._engine(Store(self.folder).folder_of(cell)).train(model, datamodule=part)
        self._last_model = model
        table = evaluator.table
        if table is None:
            msg = f"{cell.name}: expected test images, found none"
            raise ValueError(msg)
        return table

    def _trained(self, training: str, cell: Cell, entry: Entry) -> Path:
        """Train once for all cells that differ only in target and references."""
        protocol = self.benchmark.protocol_of(cell.target)
        folder = self.folder / "training" / training
        settings = [entry.class_path, entry.init_args, protocol.auxiliary.class_path, protocol.auxiliary.init_args]
        wanted = json.dumps([*settings, self.benchmark.train_batch_size], sort_keys=True, default=str)
        record = folder / "trained.json"
        known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        if known.get("settings") == wanted and (folder / known["checkpoint"]).is_file():
            return folder / known["checkpoint"]
        model = build_model(entry, Cell(cell.model, cell.target, None, None, cell.seed), visualizer=False)
        engine = self._engine(folder)
        engine.fit(model, datamodule=self._auxiliary(protocol.auxiliary.build(AnomalibDataModule)))
        checkpoint = Path(str(engine.best_model_path)).resolve()
        with whole_file(record) as temporary:
            content = {"settings": wanted, "checkpoint": str(checkpoint.relative_to(folder.resolve()))}
            temporary.write_text(json.dumps(content), encoding="utf-8")
        return checkpoint

    def _auxiliary(self, datamodule: AnomalibDataModule) -> AnomalibDataModule:
        if isinstance(datamodule, Auxiliary):
            return datamodule
        return Auxiliary(datamodule, train_batch_size=self.benchmark.train_batch_size, **self.benchmark.plumbing)

    def _target(self, cell: Cell) -> AnomalibDataModule:
        return self.benchmark.protocol_of(cell.target).targets[cell.target].build(AnomalibDataModule)

    def _engine(self, folder: Path) -> Engine:
        return Engine(default_root_dir=folder, **{"devices": self._device, **self._engine_arguments})
