from collections.abc import Callable
from pathlib import Path

import pytest
from anomalib.data import AnomalibDataModule

from anomalib_zsad.data import MagneticTile, VisA
from anomalib_zsad.data.categories import parts_of
from anomalib_zsad.synthetic import Synthetic

DRAWN = {"train_good": 1, "test_good": 1, "test_defective": 1, "image_size": 48}


@pytest.mark.parametrize(
    ("build", "root"),
    [
        (lambda _: Synthetic(None, target_categories=["coin"], **DRAWN).target, None),
        (lambda root: VisA(root, categories=["candle"]), "visa_root"),
        (lambda root: MagneticTile(root, train_defects=["MT_Crack"]), "magnetic_tile_root"),
    ],
    ids=["Synthetic", "VisA", "MagneticTile"],
)
def test_models_of_anomalib_find_validation_data_and_normal_test_images(
    build: Callable[[Path | None], AnomalibDataModule], root: str | None, request: pytest.FixtureRequest
) -> None:
    (part,) = parts_of(build(request.getfixturevalue(root) if root else None)).values()
    part.prepare_data()
    part.setup()
    assert set(part.test_data.samples["label_index"]) == {0, 1}
    assert len(part.val_dataloader()) == len(part.test_dataloader()) == len(part.test_data)
