"""How one cell of a benchmark comes to its result."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from anomalib.data import AnomalibDataModule
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from jsonargparse.typing import import_object

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.benchmark.grid import Benchmark, Cell, Entry, build_model
from anomalib_zsad.benchmark.store import Store
from anomalib_zsad.benchmark.unit_scores import UnitScores
from anomalib_zsad.data.all_categories import AllCategories
from anomalib_zsad.data.auxiliary import Auxiliary
from anomalib_zsad.data.parts import parts_of
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
        self._last_model: Any = None

    def __call__(self, cell: Cell) -> pd.DataFrame:
        """Test one cell.

        Returns:
            A row for every category (`evaluation.table`), without their mean.
        """
        entry = self.benchmark.models[cell.model]
        if entry.members:
            table = self._ensemble(cell, entry)
        else:
            table = self._zero_shot(cell, entry) if entry.is_zero_shot else self._per_category(cell, entry)
        return table[table["category"] != MEAN]

    def _zero_shot(self, cell: Cell, entry: Entry) -> Any:
        checkpoint = None if _holds_weights(entry) else self._trained(cell, entry)
        model: Any = build_model(entry, cell, visualizer=False)
        tested = AllCategories(self._target(cell), **self.benchmark.plumbing)
        self._engine(Store(self.folder).folder_of(cell)).test(model, datamodule=tested, ckpt_path=checkpoint)
        self._last_model = model
        return model.evaluator.table

    def _ensemble(self, cell: Cell, entry: Entry) -> Any:
        """Put trained members together; the scale of their scores is that of the auxiliary dataset's held-out images.

        Where a member is trained on the normal images of every category, it is that of the category's own validation
        images, which are its test images in most of anomalib's datamodules.
        """
        models = [self._member(name, cell) for name in entry.members]
        model: Any = build_model(entry, cell, models=models, visualizer=False)
        engine = self._engine(Store(self.folder).folder_of(cell))
        if cell.category is None:
            auxiliary = self.benchmark.protocol_of(cell.target).auxiliary
            engine.fit(model, datamodule=self._auxiliary(auxiliary.build(AnomalibDataModule)))
            engine = self._engine(Store(self.folder).folder_of(cell))
            engine.test(model, datamodule=AllCategories(self._target(cell), **self.benchmark.plumbing))
        else:
            engine.train(model, datamodule=self._category(cell))
        self._last_model = model
        return model.evaluator.table

    def _member(self, name: str, cell: Cell) -> AnomalibModule:
        """Take a model as it was trained for its own cells."""
        entry = self.benchmark.models[name]
        if entry.is_zero_shot:
            own = replace(cell, model=name, category=None)
            if _holds_weights(entry):
                return build_model(entry, own, visualizer=False)
            return import_object(entry.class_path).load_from_checkpoint(self._trained(own, entry))
        own, store = replace(cell, model=name, shots=next(iter(entry.shots), None)), Store(self.folder)
        if not store.is_finished(own, self.benchmark.fingerprint(own)):
            msg = f"{own.name} has no result, so its model is no member: expected it to be trained"
            raise ValueError(msg)
        found = sorted(store.folder_of(own).rglob("model.ckpt"), key=lambda path: path.stat().st_mtime)
        if not found:  # of a model that nothing is trained of
            return build_model(entry, own, visualizer=False)
        others = {"post_processor": UnitScores(), "evaluator": False, "visualizer": False}
        return import_object(entry.class_path).load_from_checkpoint(found[-1], **others)

    def _per_category(self, cell: Cell, entry: Entry) -> pd.DataFrame:
        evaluator = ZeroShotEvaluator()
        model = build_model(entry, cell, visualizer=False, post_processor=UnitScores(), evaluator=evaluator)
        self._engine(Store(self.folder).folder_of(cell)).train(model, datamodule=self._category(cell))
        self._last_model = model
        table = evaluator.table
        if table is None:
            msg = f"{cell.name}: expected test images, found none"
            raise ValueError(msg)
        return table

    def _trained(self, cell: Cell, entry: Entry) -> Path:
        """Train once for all cells that differ only in target and references."""
        protocol = self.benchmark.protocol_of(cell.target)
        number = self.benchmark.protocols.index(protocol)
        folder = self.folder / "training" / cell.model / f"protocol_{number}" / f"seed_{cell.seed}"
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

    def _category(self, cell: Cell) -> AnomalibDataModule:
        part = parts_of(self._target(cell))[str(cell.category)]
        part.num_workers, part.eval_batch_size = self.benchmark.num_workers, self.benchmark.eval_batch_size
        return part

    def _target(self, cell: Cell) -> AnomalibDataModule:
        return self.benchmark.protocol_of(cell.target).targets[cell.target].build(AnomalibDataModule)

    def _engine(self, folder: Path) -> Engine:
        return Engine(default_root_dir=folder, **{"devices": 1, **self._engine_arguments})


def _holds_weights(entry: Entry) -> bool:
    return isinstance(entry.init_args.get("weights"), str)  # an ensemble's are numbers
