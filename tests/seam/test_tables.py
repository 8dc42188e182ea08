from pathlib import Path

import pandas as pd
import pytest
from anomalib.data import Tabular

from anomalib_zsad.data import AllCategories, Auxiliary


@pytest.fixture
def table(mvtec_root: Path) -> pd.DataFrame:
    bottle = mvtec_root / "bottle"
    rows = [(path, "train", 0, None) for path in (bottle / "train/good").iterdir()]
    rows += [(path, "test", 0, None) for path in (bottle / "test/good").iterdir()]
    rows += [
        (path, "test", 1, f"bottle/ground_truth/broken/{path.stem}_mask.png")
        for path in (bottle / "test/broken").iterdir()
    ]
    columns = ["image_path", "split", "label_index", "mask_path"]
    return pd.DataFrame(rows, columns=columns).assign(
        image_path=[path.relative_to(mvtec_root).as_posix() for path, *_ in rows]
    )


@pytest.mark.parametrize("file", [False, True])
def test_a_table_below_a_root_is_read_whatever_pandas_takes_for_text(
    mvtec_root: Path, table: pd.DataFrame, tmp_path: Path, file: bool
) -> None:
    if file:
        table.to_csv(tmp_path / "bottles.csv", index=False)
        source = Tabular.from_file("bottles", tmp_path / "bottles.csv", root=mvtec_root, num_workers=0)
    else:
        source = Tabular("bottles", table, root=mvtec_root, num_workers=0)
    source.setup()
    assert len(source.train_data) == 2

    tested, trained = AllCategories(source, num_workers=0), Auxiliary(source, num_workers=0, val_ratio=0)
    tested.setup("test")
    trained.setup("fit")

    assert len(tested.test_data) == len(trained.train_data) == 5
    assert sum(bool(item.gt_mask.any()) for item in trained.train_data) == 2
