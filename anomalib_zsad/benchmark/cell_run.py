"""Runs one cell of a benchmark."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from anomalib.callbacks.checkpoint import ModelCheckpoint
from anomalib.data import AnomalibDataModule
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from filelock import FileLock
from lightning.pytorch import seed_everything

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.benchmark.case_files import save_cases
from anomalib_zsad.benchmark.cases import CaseKeeper
from anomalib_zsad.benchmark.device_lock import own_device
from anomalib_zsad.benchmark.entries import Entry
from anomalib_zsad.benchmark.grid import Benchmark, Cell, build_model, decisive
from anomalib_zsad.benchmark.one_category import OneCategory, as_auxiliary
from anomalib_zsad.benchmark.store import CASES, Store
from anomalib_zsad.benchmark.unit_scores import UnitScores
from anomalib_zsad.data.all_categories import AllCategories
from anomalib_zsad.evaluation.evaluator import ZeroShotEvaluator
from anomalib_zsad.evaluation.table import MEAN

_ANOMALIBS_BATCH = 32
"""Training images in a batch, as in anomalib's datamodules."""


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
        self._device: int | list[int] = 1
        self._last_model: Any = None

    def __call__(self, cell: Cell) -> pd.DataFrame:
        """Test one cell; its best and worst cases are kept beside its result.

        Returns:
            A row for every category (`evaluation.table`), without their mean.
        """
        entry = self.benchmark.models[cell.model]
        test = self._ensemble if entry.members else self._zero_shot if entry.is_zero_shot else self._per_category
        keeper = CaseKeeper()
        with own_device(self._engine_arguments.get("accelerator", "auto")) as self._device:
            table = test(cell, entry, keeper)
        save_cases(Store(self.folder).folder_of(cell) / CASES, keeper.shown())
        return table[table["category"] != MEAN]

    def _zero_shot(self, cell: Cell, entry: Entry, keeper: CaseKeeper) -> Any:
        model: Any = build_model(entry, cell, visualizer=False)
        model.evaluator.watch = keeper.add
        tested = self._tested(cell)
        # An ablation may have switched off all that learns.
        learns = any(parameter.requires_grad for parameter in model.parameters())
        training = self.benchmark.training_of(cell)
        checkpoint = self._trained(training, cell, entry) if learns and training else None
        self._engine(Store(self.folder).folder_of(cell)).test(model, datamodule=tested, ckpt_path=checkpoint)
        self._last_model = model
        return model.evaluator.table

    def _ensemble(self, cell: Cell, entry: Entry, keeper: CaseKeeper) -> Any:
        """Put trained members together; the scale of their scores is that of the auxiliary dataset's held-out images.

        Where a member is trained on the normal images of every category, it is that of some of these.
        """
        tested = self._tested(cell) if cell.category is None else None
        models = [self._member(name, cell) for name in entry.members]
        model: Any = build_model(entry, cell, models=models, visualizer=False)
        model.evaluator.watch = keeper.add
        engine = self._engine(Store(self.folder).folder_of(cell))
        if tested is not None:
            auxiliary = self.benchmark.protocol_of(cell.target).auxiliary.build(AnomalibDataModule)
            engine.fit(model, datamodule=as_auxiliary(auxiliary, self.benchmark.training_plumbing(cell)))
            engine = self._engine(Store(self.folder).folder_of(cell))
            engine.test(model, datamodule=tested)
        else:
            engine.train(model, datamodule=self._category(cell, entry))
        self._last_model = model
        return model.evaluator.table

    def _member(self, name: str, cell: Cell) -> AnomalibModule:
        """Load a model as it was trained for its own cells."""
        entry, own = self.benchmark.models[name], self.benchmark.member_of(cell, name)
        if entry.is_zero_shot:
            training = self.benchmark.training_of(own)
            if training is None:
                return build_model(entry, own, visualizer=False)
            named = {name: value for name, value in entry.init_args.items() if name == "pretrained"}
            return entry.model_class.load_from_checkpoint(self._trained(training, own, entry), **named)
        store = Store(self.folder)
        if not store.is_finished(own, self.benchmark.fingerprint(own)):
            msg = f"{own.name} has no result, so its model is no member: expected it to be trained"
            raise ValueError(msg)
        found = sorted(store.folder_of(own).rglob("model.ckpt"), key=lambda path: path.stat().st_mtime)
        if not found:  # of a model that nothing is trained of
            return build_model(entry, own, visualizer=False)
        others: dict[str, Any] = {"post_processor": UnitScores(), "evaluator": False, "visualizer": False}
        return entry.model_class.load_from_checkpoint(found[-1], **others)

    def _per_category(self, cell: Cell, entry: Entry, keeper: CaseKeeper) -> pd.DataFrame:
        seed_everything(cell.seed, workers=True, verbose=False)
        evaluator = ZeroShotEvaluator()
        evaluator.watch = keeper.add
        model = build_model(entry, cell, visualizer=False, post_processor=False, evaluator=evaluator)
        # As an argument most models would refuse it, which name anomalib's own class in their signature.
        model.post_processor = UnitScores(entry.signed_scores)
        self._engine(Store(self.folder).folder_of(cell)).train(model, datamodule=self._category(cell, entry))
        self._last_model = model
        table = evaluator.table
        if table is None:
            msg = f"{cell.name}: expected test images, found none"
            raise ValueError(msg)
        return table

    def _trained(self, training: str, cell: Cell, entry: Entry) -> Path:
        """Train once for all cells that differ only in target and references; other processes wait for it."""
        folder = self.folder / "training" / training
        folder.mkdir(parents=True, exist_ok=True)
        protocol, plumbing = self.benchmark.protocol_of(cell.target), self.benchmark.training_plumbing(cell)
        auxiliary = decisive(protocol.auxiliary)
        settings = [entry.class_path, entry.init_args, *auxiliary.values(), plumbing["train_batch_size"]]
        wanted = json.dumps(settings, sort_keys=True, default=str)
        record = folder / "trained.json"
        with FileLock(folder / "training.lock"):
            known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
            if known.get("settings") == wanted and (folder / known["checkpoint"]).is_file():
                kept = folder / known["checkpoint"] if entry.epoch is None else _of_epoch(folder, entry.epoch)
                if kept.is_file():
                    return kept
            model = build_model(entry, Cell(cell.model, cell.target, None, None, cell.training_seed), visualizer=False)
            engine = self._engine(folder, **({} if entry.epoch is None else {"callbacks": [_every_epoch(folder)]}))
            engine.fit(model, datamodule=as_auxiliary(protocol.auxiliary.build(AnomalibDataModule), plumbing))
            checkpoint = Path(str(engine.best_model_path)).resolve()
            with whole_file(record) as temporary:
                content = {"settings": wanted, "checkpoint": str(checkpoint.relative_to(folder.resolve()))}
                temporary.write_text(json.dumps(content), encoding="utf-8")
            return checkpoint if entry.epoch is None else _of_epoch(folder, entry.epoch)

    def _category(self, cell: Cell, entry: Entry) -> OneCategory:
        size = entry.train_batch_size or _ANOMALIBS_BATCH
        return OneCategory(self._target(cell), cell, train_batch_size=size, **self.benchmark.plumbing)

    def _tested(self, cell: Cell) -> AllCategories:
        """All categories of the target; a missing dataset is reported before anything is trained for it."""
        tested = AllCategories(self._target(cell), seed=cell.training_seed, **self.benchmark.plumbing)
        tested.prepare_data()
        return tested

    def _target(self, cell: Cell) -> AnomalibDataModule:
        return self.benchmark.protocol_of(cell.target).targets[cell.target].build(AnomalibDataModule)

    def _engine(self, folder: Path, **more: Any) -> Engine:
        return Engine(default_root_dir=folder, **{"devices": self._device, **self._engine_arguments, **more})


def _every_epoch(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(_of_epoch(folder, 1).parent, "{epoch}", save_top_k=-1, enable_version_counter=False)


def _of_epoch(folder: Path, number: int) -> Path:
    return folder / "epochs" / f"epoch={number - 1}.ckpt"
