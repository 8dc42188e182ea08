import logging
import shutil
from pathlib import Path
from urllib.error import URLError

import pytest
from anomalib.data import Visa
from anomalib.data.utils import download

from anomalib_zsad.data import VisA
from tests.support.trees import VISA_CATEGORIES, visa_tree


def set_up(datamodule: VisA) -> VisA:
    datamodule.prepare_data()
    datamodule.setup("test")
    return datamodule


def test_the_download_is_read_in_place(visa_root: Path) -> None:
    before = sorted(visa_root.rglob("*"))

    dataset = set_up(VisA(visa_root)).test_data

    assert sorted(visa_root.rglob("*")) == before
    assert dataset.categories == sorted(VISA_CATEGORIES)
    assert len(dataset) == 12 * 6
    assert all(path.endswith(".JPG") for path in dataset.samples["image_path"])


def test_every_class_number_of_a_mask_is_a_defect(visa_root: Path) -> None:
    dataset = set_up(VisA(visa_root, categories=["pcb2"])).test_data

    areas = [int(item.gt_mask.sum()) for item in dataset]

    assert areas == [64] * 3 + [0] * 3
    assert [bool(item.gt_label) for item in dataset] == [True] * 3 + [False] * 3


def test_anomalibs_resplit_copy_gives_the_same_samples(tmp_path: Path) -> None:
    root = visa_tree(tmp_path / "visa")
    raw = set_up(VisA(root))
    Visa(root).prepare_data()
    copy = tmp_path / "copy"
    shutil.move(root / "visa_pytorch", copy / "visa_pytorch")

    resplit = set_up(VisA(copy))

    def facts(datamodule: VisA) -> list[tuple[str, str, int]]:
        samples = datamodule.test_data.samples
        names = [Path(path).name for path in samples["image_path"]]
        return sorted(zip(samples["category"], names, samples["label_index"], strict=True))

    def areas(datamodule: VisA) -> list[int]:
        return sorted(int(item.gt_mask.sum()) for item in datamodule.test_data)

    assert facts(resplit) == facts(raw)
    assert areas(resplit) == areas(raw)


def test_categories_that_are_there_are_enough(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = visa_tree(tmp_path, ["candle", "pcb1"])

    with caplog.at_level(logging.WARNING):
        datamodule = set_up(VisA(root))

    assert datamodule.test_data.categories == ["candle", "pcb1"]
    assert "lacks capsules, cashew" in caplog.text


def test_a_named_category_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    root = visa_tree(tmp_path, ["candle"])

    with pytest.raises(FileNotFoundError, match=r"No VisA category at .*cashew: expected .* VisA_20220922\.tar"):
        VisA(root, categories=["cashew"]).prepare_data()


def test_a_category_that_is_only_in_the_resplit_copy_is_read_from_there(tmp_path: Path) -> None:
    root = visa_tree(tmp_path)
    Visa(root).prepare_data()
    shutil.rmtree(root / "candle")

    datamodule = set_up(VisA(root, categories=["candle", "cashew"]))

    copied = ["visa_pytorch" in path for path in datamodule.test_data.samples["image_path"]]
    assert sorted(copied) == [False] * 6 + [True] * 6


def test_a_missing_split_file_is_an_error(tmp_path: Path) -> None:
    root = visa_tree(tmp_path, ["candle"])
    (root / "split_csv" / "1cls.csv").unlink()

    with pytest.raises(FileNotFoundError, match=r"No split file of VisA at .*1cls\.csv"):
        set_up(VisA(root))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("a,b\n1,2\n", "has the columns a, b, expected object"),
        ("object,split,label,image,mask\ncandle,test,odd,a,b\n", "'odd'"),
    ],
)
def test_a_split_file_of_another_kind_is_an_error(tmp_path: Path, content: str, complaint: str) -> None:
    root = visa_tree(tmp_path, ["candle"])
    (root / "split_csv" / "1cls.csv").write_text(content)

    with pytest.raises(ValueError, match=complaint):
        set_up(VisA(root))


def test_without_a_network_one_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(download, "urlretrieve", refuse)

    for _ in range(2):
        with pytest.raises(ConnectionError, match=r"VisA is not at .*visa and cannot be downloaded .*no network"):
            VisA(tmp_path / "visa").prepare_data()
