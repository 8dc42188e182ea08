import json
import shutil
from collections import Counter
from pathlib import Path, PurePath

import pytest
from PIL import Image

from anomalib_zsad.data import AllCategories, Auxiliary, Listed
from anomalib_zsad.data.names import domain_of
from tests.support.known_trees import DEFECT_AREA, jsonl, meta_json


def test_lines_are_the_test_images(tmp_path: Path) -> None:
    datamodule = Listed(jsonl(tmp_path))
    datamodule.setup("test")

    assert datamodule.name == "RSDD"
    items = [(item.category, int(item.gt_label), int(item.gt_mask.sum())) for item in datamodule.test_data]
    assert sorted(items) == [("Crush", 0, 0), ("Crush", 1, DEFECT_AREA), ("Dent", 0, 0), ("Dent", 1, DEFECT_AREA)]


@pytest.mark.parametrize("windows", [False, True])
def test_a_meta_json_has_training_images_as_well(tmp_path: Path, windows: bool) -> None:
    file = meta_json(tmp_path / "Kvasir", windows=windows)
    datamodule = Listed(file)
    datamodule.setup("test")

    assert datamodule.name == "Kvasir"
    assert domain_of(datamodule) == "medical"
    assert Counter(datamodule.test_data.samples["category"]) == {"colon": 2, "skin": 2}
    assert datamodule.normal_images("skin") == [tmp_path / "Kvasir" / "skin" / "train" / "0.png"]


def test_a_name_that_is_no_folder_becomes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = meta_json(tmp_path / "Kvasir")
    (tmp_path / "Kvasir" / "below").mkdir()
    monkeypatch.chdir(tmp_path / "Kvasir" / "below")

    assert Listed("../meta.json").name == "Kvasir"
    for name in ("../../outside", "/outside", ".."):
        assert PurePath(Listed(file, name=name).name).name not in {"outside", "..", ""}


def test_images_may_be_elsewhere_and_the_dataset_have_another_name(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "images").rename(tmp_path / "list.jsonl")
    datamodule = Listed(file, root=tmp_path / "images", name="VisA", categories=["Crush"])
    datamodule.setup("test")

    assert datamodule.training_sets == ["VisA/Crush"]
    assert datamodule.test_data.categories == ["Crush"]


def test_a_list_as_source_and_target(tmp_path: Path) -> None:
    rails, polyps = Listed(jsonl(tmp_path / "a")), Listed(meta_json(tmp_path / "b"))
    for datamodule in (Auxiliary(rails, target=polyps), AllCategories(polyps)):
        datamodule.setup("test")
        assert datamodule.test_data.categories == ["colon", "skin"]
    with pytest.raises(ValueError, match="Unknown category 'Scratch' of RSDD, expected some of: Dent, Crush"):
        Listed(tmp_path / "a" / "RSDD.jsonl", categories=["Scratch"]).setup("test")


def test_without_masks_it_is_classification(tmp_path: Path) -> None:
    file = jsonl(tmp_path)
    rows = [{**json.loads(line), "mask_path": None} for line in file.read_text().splitlines()]
    file.write_text("\n".join(map(json.dumps, rows)))
    datamodule = Listed(file)
    datamodule.setup("test")

    assert datamodule.task == "classification"


def test_the_threshold_of_the_masks(tmp_path: Path) -> None:
    file = jsonl(tmp_path, ("Dent",))
    mask = json.loads(file.read_text().splitlines()[-1])["mask_path"]
    Image.new("L", Image.open(tmp_path / mask).size, 100).save(tmp_path / mask)
    for threshold, is_defective in ((99, True), (100, False)):
        datamodule = Listed(file, mask_threshold=threshold)
        datamodule.setup("test")
        assert any(item.gt_mask.any() for item in datamodule.test_data) == is_defective


def test_the_masks_of_a_list_are_cut_where_their_kind_says(tmp_path: Path) -> None:
    file = jsonl(tmp_path, ("Dent",))
    smeared = Image.new("L", (32, 32), 60)
    smeared.paste(255, (0, 0, 8, 8))
    for suffix, defective in ((".jpg", 8 * 8), (".png", 32 * 32)):
        smeared.save(tmp_path / f"mask{suffix}", quality=100)
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rows = [{**row, "mask_path": f"mask{suffix}" if row["label"] else ""} for row in rows]
        file.write_text("\n".join(map(json.dumps, rows)))
        Image.new("RGB", (32, 32)).save(tmp_path / "Dent" / "1.png")
        datamodule = Listed(file)
        datamodule.setup("test")
        assert [int(item.gt_mask.sum()) for item in datamodule.test_data if item.gt_label] == [defective]


def test_defects_are_no_normal_images_to_train_on(tmp_path: Path) -> None:
    file = meta_json(tmp_path)
    content = json.loads(file.read_text())
    defect = {**content["test"]["skin"][1], "img_path": "skin/train/1.png"}
    shutil.copy(tmp_path / content["test"]["skin"][1]["img_path"], tmp_path / "skin/train/1.png")
    content["train"]["skin"].append(defect)
    file.write_text(json.dumps(content))
    part = Listed(file).parts()["skin"]
    part.setup()
    assert [Path(path).name for path in part.train_data.samples["image_path"]] == ["0.png"]


def test_a_root_that_is_wrong_is_told_with_a_path(tmp_path: Path) -> None:
    file = jsonl(tmp_path)

    with pytest.raises(
        FileNotFoundError, match=r"2 of 2 images that .*RSDD\.jsonl lists are not below .*: expected `root`"
    ):
        Listed(file, root=tmp_path / "elsewhere").setup("test")


@pytest.mark.parametrize("key", ["image_path", "mask_path"])
def test_files_outside_of_the_root_are_read_only_if_asked_for(tmp_path: Path, key: str) -> None:
    file = jsonl(tmp_path / "inside", ("Dent",))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    outside = shutil.copy(tmp_path / "inside" / rows[-1][key], tmp_path / "0.png")
    for path in ("../0.png", str(outside)):
        file.write_text("\n".join(map(json.dumps, [*rows[:-1], {**rows[-1], key: path}])))
        with pytest.raises(ValueError, match=r"RSDD\.jsonl names .*0\.png, which is outside of .*or anywhere=True"):
            Listed(file).setup("test")
        datamodule = Listed(file, anywhere=True)
        datamodule.setup("test")
        assert len(datamodule.test_data) == 2


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", "", "lists no image to test on"),
        ("a.jsonl", '{"image_path": "1.png"', "Cannot read line 1 of .* as JSON"),
        ("a.jsonl", "[1]", r"Expected names with values in line 1 of .*, got \[1\]"),
        ("a.jsonl", '{"image_path": "1.png", "class_name": "x", "label": 2}', "has the entry .*, the last 0 or 1"),
        ("a.jsonl", '{"image_path": 1, "class_name": "x", "label": 1}', "has the entry .*, expected image_path"),
        ("meta.json", "[]", r"Expected names with values in .*meta\.json, got \[\]"),
        ("meta.json", '{"train": {}}', "lists no image to test on"),
        ("meta.json", '{"test": {"x": {}}}', "has no list for each category under 'test'"),
        ("meta.json", '{"test": {"x": ["1.png"]}}', "has the entry 1.png, expected img_path, mask_path"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    (tmp_path / name).write_text(content)

    with pytest.raises(ValueError, match=complaint):
        Listed(tmp_path / name).prepare_data()


def test_a_list_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"No list of images at .*meta\.json: expected a \.jsonl or a meta\.json"
    ):
        Listed(tmp_path / "meta.json").prepare_data()
