from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from anomalib.data import AnomalibDataModule, Folder, MVTecAD, Visa
from torch.utils.data import ConcatDataset, DataLoader

from anomalib_zsad.data import AllCategories, Auxiliary, MVTec, VisA
from anomalib_zsad.data.trainable import check_before_setup, check_model, check_trainable
from anomalib_zsad.models import AFClip

AUXILIARY = "--data Auxiliary --data.source"


def check(datamodule: AnomalibDataModule) -> None:
    check_before_setup(datamodule, AFClip)
    normal = [SimpleNamespace(gt_label=torch.tensor(0), gt_mask=torch.zeros(2, 2))]
    check_trainable(SimpleNamespace(dataset=normal), datamodule, AFClip)


@pytest.mark.parametrize(
    ("datamodule", "command"),
    [
        (MVTecAD("./mv", "grid"), f"{AUXILIARY} MVTecAD --data.source.root mv --data.categories '[grid]'"),
        (MVTecAD("./mv", "coin"), f"{AUXILIARY} MVTecAD --data.source.root mv --data.source.category coin"),
        (
            Visa("./vi", "pcb1", train_batch_size=4),
            "--data VisA --data.root vi --data.train_batch_size 4 --data.categories '[pcb1]'",
        ),
        (AllCategories(MVTecAD("./mv")), f"{AUXILIARY} MVTecAD --data.source.root mv --data.categories '[bottle]'"),
        (AllCategories(VisA("./vi")), "--data VisA --data.root vi"),
        (
            Folder("my parts", "good", "./p"),
            f"{AUXILIARY} Folder --data.source.name 'my parts' --data.source.normal_dir good "
            "--data.source.root ./p --data.source.abnormal_dir <folder> --data.source.mask_dir <folder>",
        ),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_trains_on_normal_images_is_answered_with_the_command_that_trains(
    datamodule: AnomalibDataModule, command: str
) -> None:
    with pytest.raises(ValueError, match="AFClip, which needs anomalous images with masks") as refused:
        check(datamodule)
    assert str(refused.value).endswith(f"anomalib train --model anomalib_zsad.AFClip {command}")


def test_a_folder_of_normal_images_alone_is_refused_before_it_is_read() -> None:
    with pytest.raises(ValueError, match=r"Folder cannot train AFClip.*--data\.source\.abnormal_dir <folder>"):
        check_before_setup(Folder("parts", "good", "./nowhere"), AFClip)


def test_dataloaders_are_judged_by_their_images(mvtec_root: Path) -> None:
    stock = MVTecAD(mvtec_root, "grid", num_workers=0)
    stock.setup()
    train, test = (
        DataLoader(data, collate_fn=stock.train_data.collate_fn) for data in (stock.train_data, stock.test_data)
    )
    wrapped = DataLoader(ConcatDataset([stock.test_data]), collate_fn=stock.train_data.collate_fn)
    before = torch.random.get_rng_state()
    for good in (test, wrapped, [train, test], {"a": test}):
        check_trainable(good, None, AFClip)
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(ValueError, match=r"A dataloader cannot train AFClip.*none of its 2 .*datamodule=Auxiliary"):
        check_trainable(train, None, AFClip)


def test_anomalous_images_without_masks_do_not_train(mvtec_root: Path) -> None:
    folder = Folder("bottles", "train/good", mvtec_root / "bottle", "test/broken", "test/good")
    folder.setup()

    with pytest.raises(ValueError, match="is anomalous and has a mask"):
        check_trainable(folder.test_dataloader(), folder, AFClip)


class OneClass:
    """Stands for a model of anomalib."""

    learning_type = "one_class"


@pytest.mark.parametrize(("model", "refused"), [(OneClass(), True), (AFClip, False), (object(), False), (None, False)])
def test_a_model_that_learns_from_normal_images_does_not_get_anomalous_ones(
    mvtec_root: Path, model: Any, refused: bool
) -> None:
    datamodule = Auxiliary(MVTec(mvtec_root))
    if not refused:
        check_model(datamodule, model)
        return
    datamodule.trainer = SimpleNamespace(lightning_module=model)  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"OneClass would take them for normal.*anomalib_zsad\.AllCategories"):
        datamodule.setup("fit")
