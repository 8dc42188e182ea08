import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from anomalib.data import Folder, ImageBatch, MVTecAD, Visa
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_zsad.data import AllCategories, Auxiliary, MVTec, VisA
from anomalib_zsad.evaluation.evaluator import training_notes
from tests.support.trees import MVTEC_CATEGORIES, VISA_CATEGORIES, mvtec_tree

STAGES = [TrainerFn.FITTING, TrainerFn.VALIDATING, TrainerFn.TESTING, TrainerFn.PREDICTING]


class Recorder(LightningModule):
    """A model that learns nothing and notes what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.pre_processor = SimpleNamespace(transform=Compose([Resize((24, 24)), Normalize([0.5], [0.5])]))
        self.seen: dict[str, list[str]] = {"train": [], "val": [], "test": [], "predict": []}
        self.sizes: set[tuple[int, ...]] = set()

    def note(self, stage: str, batch: ImageBatch) -> None:
        self.seen[stage] += batch.image_path
        self.sizes |= {tuple(batch.image.shape[-2:]), tuple(batch.gt_mask.shape[-2:])}

    def training_step(self, batch: ImageBatch, batch_idx: int) -> torch.Tensor:
        self.note("train", batch)
        return self.weight * 0

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        self.note("val", batch)

    def test_step(self, batch: ImageBatch, batch_idx: int) -> None:
        self.note("test", batch)

    def predict_step(self, batch: ImageBatch, batch_idx: int) -> None:
        self.note("predict", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1)


def trainer(tmp_path: Path) -> Trainer:
    return Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        num_sanity_val_steps=0, default_root_dir=tmp_path, enable_model_summary=False,
    )  # fmt: skip


def paths(dataset: object) -> set[str]:
    return set(dataset.samples["image_path"])  # type: ignore[attr-defined]


def test_training_then_testing_through_a_trainer(tmp_path: Path, visa_root: Path, mvtec_root: Path) -> None:
    datamodule = VisA(visa_root, target=MVTec(mvtec_root), num_workers=0)
    model = Recorder()

    trainer(tmp_path).fit(model, datamodule=datamodule)
    trainer(tmp_path).test(model, datamodule=datamodule)
    trainer(tmp_path).predict(model, datamodule=datamodule, return_predictions=False)

    assert set(model.seen["train"]) == paths(datamodule.train_data)
    assert set(model.seen["val"]) == paths(datamodule.val_data)
    assert len(model.seen["train"]) + len(model.seen["val"]) == 12 * 6
    assert len(model.seen["test"]) == 15 * 7
    assert model.seen["predict"] == model.seen["test"]
    assert model.sizes == {(24, 24)}


def test_training_data_are_the_labelled_test_images_of_all_categories(visa_root: Path) -> None:
    datamodule = Auxiliary(Visa(visa_root / "none"), target=None)
    assert datamodule.training_sets == [f"Visa/{name}" for name in VISA_CATEGORIES]

    datamodule = VisA(visa_root)
    datamodule.setup(TrainerFn.FITTING)
    training, held_out = datamodule.train_data, datamodule.val_data

    assert training.categories == held_out.categories == sorted(VISA_CATEGORIES)
    assert set(training.samples["split"]) == {"test"}
    assert paths(training).isdisjoint(paths(held_out))
    for dataset, count in ((training, 2), (held_out, 1)):
        assert (dataset.samples.groupby(["category", "label_index"]).size() == count).all()


def test_any_stock_datamodule_is_a_source(mvtec_root: Path) -> None:
    datamodule = Auxiliary(MVTecAD(mvtec_root, "wood"), categories=["bottle", "grid"])
    datamodule.prepare_data()
    datamodule.setup("fit")

    assert datamodule.name == "MVTecAD"
    assert datamodule.training_sets == ["MVTecAD/bottle", "MVTecAD/grid"]
    assert datamodule.train_data.categories == ["bottle", "grid"]


def test_the_split_is_seeded(mvtec_root: Path) -> None:
    def held_out(seed: int) -> set[str]:
        datamodule = MVTec(mvtec_root, val_ratio=0.4, seed=seed)
        datamodule.setup("fit")
        return paths(datamodule.val_data)

    assert held_out(0) == held_out(0)
    assert held_out(0) != held_out(1)


def test_the_order_of_training_images_is_seeded_and_changes_with_the_epoch(mvtec_root: Path) -> None:
    def epochs() -> list[list[str]]:
        datamodule = MVTec(mvtec_root, categories=["bottle"], num_workers=0)
        datamodule.setup("fit")
        loader = datamodule.train_dataloader()
        orders = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)  # as Lightning does
            orders.append([path for batch in loader for path in batch.image_path])
        return orders

    first, second = epochs(), epochs()

    assert first == second
    assert first[0] != first[1]


def test_without_a_target_testing_after_a_fit_uses_the_held_out_share_and_says_so(
    mvtec_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    datamodule = MVTec(mvtec_root)
    with caplog.at_level(logging.WARNING):
        datamodule.setup(TrainerFn.FITTING)
        datamodule.setup(TrainerFn.TESTING)

    assert paths(datamodule.test_data) == paths(datamodule.val_data)
    assert "not zero-shot" in caplog.text


@pytest.mark.parametrize("stage", STAGES[1:])
def test_without_a_target_or_a_fit_all_images_are_tested(
    mvtec_root: Path, caplog: pytest.LogCaptureFixture, stage: str
) -> None:
    datamodule = MVTec(mvtec_root)
    with caplog.at_level(logging.WARNING):
        datamodule.setup(stage)

    assert len(datamodule.test_data) == 15 * 7
    assert datamodule.test_data.categories == sorted(MVTEC_CATEGORIES)
    assert not caplog.text


def test_a_fit_after_a_test_holds_out_again(mvtec_root: Path) -> None:
    datamodule = MVTec(mvtec_root)
    for stage in (TrainerFn.TESTING, TrainerFn.FITTING, TrainerFn.TESTING):
        datamodule.setup(stage)

    assert paths(datamodule.test_data).isdisjoint(paths(datamodule.train_data))


@pytest.mark.parametrize("stage", STAGES)
def test_a_target_is_what_is_tested(visa_root: Path, mvtec_root: Path, stage: str) -> None:
    targets = {
        MVTecAD(mvtec_root, "cable"): ["cable"],
        MVTec(mvtec_root, categories=["wood", "pill"]): ["pill", "wood"],
        AllCategories(MVTecAD(mvtec_root)): sorted(MVTEC_CATEGORIES),
        VisA(visa_root, target=MVTecAD(mvtec_root, "grid")): ["grid"],
    }
    for target, categories in targets.items():
        datamodule = VisA(visa_root, categories=["candle"], target=target)
        datamodule.prepare_data()
        datamodule.setup(stage)

        assert datamodule.test_data.categories == categories


def test_a_source_of_this_package_keeps_its_chosen_categories(visa_root: Path) -> None:
    datamodule = Auxiliary(VisA(visa_root, categories=["candle", "pcb1"]))

    assert datamodule.training_sets == ["VisA/candle", "VisA/pcb1"]


def test_several_sources_are_trained_on_together(visa_root: Path, mvtec_root: Path) -> None:
    sources = [VisA(visa_root, ["candle", "pcb1"]), MVTecAD(mvtec_root), Auxiliary(MVTec(mvtec_root), ["grid"])]
    datamodule = Auxiliary(sources[::2], target=MVTec(mvtec_root, ["wood"]), val_ratio=0.3)
    datamodule.prepare_data()
    datamodule.setup("fit")

    assert (datamodule.name, datamodule.dataset_names) == ("VisA+MVTec", ["VisA", "MVTec"])
    assert datamodule.training_sets == ["VisA/candle", "VisA/pcb1", "MVTec/grid"]
    assert [datamodule.dataset_with(name) for name in ("pcb1", "grid")] == ["VisA", "MVTec"]
    for source, names in ((sources[0], ["candle", "pcb1"]), (sources[2], ["grid"])):
        alone = Auxiliary(source, val_ratio=0.3)
        alone.setup("fit")
        for split in ("train_data", "val_data"):
            samples = getattr(datamodule, split).samples
            assert set(samples[samples["category"].isin(names)]["image_path"]) == paths(getattr(alone, split))
    assert datamodule.test_data.categories == ["wood"]


def test_the_held_out_share_of_several_sources_is_tested_and_noted(visa_root: Path, mvtec_root: Path) -> None:
    datamodule = Auxiliary([VisA(visa_root, ["candle"]), MVTec(mvtec_root, ["grid"])], val_ratio=0.3)
    datamodule.setup("fit")

    assert datamodule.test_data.categories == ["candle", "grid"]
    assert set(training_notes(["VisA/candle", "MVTec/wood"], datamodule, ["candle", "grid"]).values()) == {
        "not zero-shot: the model was trained on this category",
        "the model was trained on other categories of this dataset",
    }
    same = [MVTec(mvtec_root, ["grid"]), MVTecAD(mvtec_root)]
    with pytest.raises(ValueError, match="Several of MVTec, MVTecAD have the category grid: to test on it, expected"):
        Auxiliary(same).setup("fit")
    Auxiliary(same, target=VisA(visa_root, ["candle"])).setup("fit")


def test_several_sources_name_their_categories_themselves(visa_root: Path, mvtec_root: Path) -> None:
    with pytest.raises(ValueError, match=r"`categories` in each of several, got 2 sources and \['grid'\]"):
        Auxiliary([VisA(visa_root), MVTec(mvtec_root)], ["grid"])
    with pytest.raises(ValueError, match="expected a source"):
        Auxiliary([])


def test_training_without_an_anomalous_image_is_refused(tmp_path: Path) -> None:
    root = mvtec_tree(tmp_path, ["bottle"], anomalous=0)

    with pytest.raises(ValueError, match=r"No anomalous image among the 3 training images of MVTec: .*such as VisA"):
        MVTec(root).setup("fit")


def test_training_without_masks_is_refused(mvtec_root: Path) -> None:
    folder = Folder("bottles", "train/good", mvtec_root / "bottle", "test/broken", "test/good")

    with pytest.raises(ValueError, match="images of bottles have no masks"):
        Auxiliary(folder).setup("fit")


def test_where_nothing_is_held_out_thresholds_come_from_some_of_the_training_images(
    mvtec_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    datamodule = MVTec(mvtec_root, ["bottle", "grid"], target=MVTec(mvtec_root, ["pill"]), val_ratio=0)
    with caplog.at_level(logging.INFO):
        datamodule.setup("fit")

    assert len(datamodule.train_data) == 2 * 7
    assert paths(datamodule.val_data) < paths(datamodule.train_data)
    assert set(datamodule.val_data.samples["label_index"]) == {0, 1}
    assert datamodule.val_data.categories == ["bottle", "grid"]
    assert "all 14 images are trained on, and thresholds are fitted on 4 of these same images" in caplog.text


def test_nothing_to_test_on_is_refused(mvtec_root: Path) -> None:
    datamodule = MVTec(mvtec_root, val_ratio=0)
    datamodule.setup("fit")

    with pytest.raises(ValueError, match="left to test on: expected a target or a val_ratio above 0"):
        datamodule.setup("test")


def test_results_go_to_a_folder_of_the_dataset(visa_root: Path) -> None:
    datamodule = VisA(visa_root)

    assert (datamodule.name, datamodule.category) == ("VisA", "")


def test_normal_images_are_normal_training_images(visa_root: Path, mvtec_root: Path) -> None:
    images = VisA(visa_root).normal_images("candle")
    assert [path.name for path in images] == ["0000.JPG", "0001.JPG"]

    images = AllCategories(MVTecAD(mvtec_root)).normal_images("grid")
    assert images == sorted((mvtec_root / "grid" / "train" / "good").iterdir())

    with pytest.raises(ValueError, match="Unknown category 'candel' of VisA"):
        VisA(visa_root).normal_images("candel")


def test_normal_images_are_of_the_dataset_that_a_stage_reads(visa_root: Path, mvtec_root: Path) -> None:
    datamodule = VisA(visa_root, ["candle"], target=MVTec(mvtec_root, ["grid"]))
    grid, candle = (mvtec_root / "grid" / "train" / "good", visa_root / "candle" / "Data" / "Images" / "Normal")

    for stage in STAGES[1:]:
        assert {path.parent for path in datamodule.normal_images("grid", stage)} == {grid}

    datamodule.setup(TrainerFn.FITTING)
    for stage in (None, *STAGES[:2]):
        assert {path.parent for path in datamodule.normal_images("candle", stage)} == {candle}
    for stage in STAGES[2:]:
        with pytest.raises(ValueError, match="Unknown category 'candle' of VisA, expected one of: grid"):
            datamodule.normal_images("candle", stage)
