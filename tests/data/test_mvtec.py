from pathlib import Path
from urllib.error import URLError

import pytest
from anomalib.data.utils import download

from anomalib_zsad.data import MVTec, VisA
from tests.support.trees import MVTEC_CATEGORIES, mvtec_tree


def test_all_categories_with_their_masks(mvtec_root: Path) -> None:
    datamodule = MVTec(mvtec_root)
    datamodule.prepare_data()
    datamodule.setup("test")

    assert datamodule.name == "MVTec"
    assert datamodule.test_data.categories == sorted(MVTEC_CATEGORIES)
    assert all(item.gt_mask.any() == item.gt_label for item in datamodule.test_data)


def test_a_root_without_categories_is_an_error_and_downloads_nothing(tmp_path: Path, visa_root: Path) -> None:
    for datamodule in (MVTec(tmp_path), VisA(visa_root, target=MVTec(tmp_path))):
        with pytest.raises(FileNotFoundError, match=r"No MVTec AD category at .*bottle: expected .* mvtec\.com"):
            datamodule.prepare_data()


def test_a_named_category_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    root = mvtec_tree(tmp_path, ["bottle"])

    with pytest.raises(FileNotFoundError, match=r"No MVTec AD category at .*cable"):
        MVTec(root, categories=["bottle", "cable"]).prepare_data()


def test_without_a_network_one_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(download, "urlretrieve", refuse)

    with pytest.raises(ConnectionError, match=r"MVTec is not at .*data and cannot be downloaded .*no network"):
        MVTec(tmp_path / "data").prepare_data()
