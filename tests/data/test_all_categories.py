from pathlib import Path

import pytest
from anomalib.data import MVTecAD
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_zsad.data import AllCategories
from tests.support.trees import MVTEC_CATEGORIES


@pytest.mark.parametrize("stage", list(TrainerFn))
def test_every_category_is_tested_and_normal_training_images_are_the_references(
    mvtec_root: Path, stage: TrainerFn
) -> None:
    datamodule = AllCategories(MVTecAD(mvtec_root))
    datamodule.prepare_data()
    datamodule.setup(stage)

    assert datamodule.test_data.categories == datamodule.train_data.categories == sorted(MVTEC_CATEGORIES)
    assert len(datamodule.test_data) == 15 * 7
    assert len(datamodule.train_data) == 15 * 2
    assert not datamodule.train_data.has_anomalous
    assert datamodule.name == "MVTecAD"


def test_chosen_categories(mvtec_root: Path) -> None:
    datamodule = AllCategories(MVTecAD(mvtec_root), categories=["zipper", "bottle"], eval_batch_size=3, num_workers=0)
    datamodule.setup()

    names = [name for batch in datamodule.test_dataloader() for name in batch.category]

    assert names == ["bottle"] * 7 + ["zipper"] * 7
