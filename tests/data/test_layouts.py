"""The oddities of published datasets, and what is said of trees that lack something."""

import logging
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anomalib.data.utils import LabelName, Split
from PIL import Image

from anomalib_zsad import data
from anomalib_zsad.data.layouts import (
    BMADFolders,
    CommutatorTiles,
    ImageMaskFolders,
    LabelsCsv,
    Layout,
    MaskBeside,
    MaskIfDefective,
    PosNeg,
    RailTiles,
    StateFolders,
    TwoFolders,
)
from tests.support.known_trees import (
    ANOMALOUS,
    DEFECT_AREA,
    NORMAL,
    TREES,
    bmad,
    head_ct,
    image,
    images_masks,
    mask,
    rsdd,
    sdd,
    states,
)


def read(layout: Layout, folder: Path) -> pd.DataFrame:
    assert layout.fits(folder)
    return layout.read(folder)


def counts(samples: pd.DataFrame) -> tuple[int, int, int]:
    """Training images, normal and anomalous test images."""
    tested = samples[samples["split"] == Split.TEST.value]["label_index"]
    return len(samples) - len(tested), len(tested) - tested.sum(), tested.sum()


def names(samples: pd.DataFrame, label: LabelName) -> list[str]:
    chosen = (samples["label_index"] == label) & (samples["split"] == Split.TEST.value)
    return sorted(Path(path).name for path in samples[chosen]["image_path"])


def masks(samples: pd.DataFrame) -> set[str]:
    return {Path(path).name for path in samples["mask_path"] if path}


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tif", ".JPG", ".jpeg"])
@pytest.mark.parametrize("tail", ["", "_mask", "_label", "_Segmentation", "_GT"])
def test_states_pair_images_and_masks_by_stem(tmp_path: Path, suffix: str, tail: str) -> None:
    samples = read(StateFolders(), states(tmp_path, suffix=suffix, tail=tail))

    assert counts(samples) == (1, NORMAL, ANOMALOUS)
    assert masks(samples) == {f"{number:03d}{tail}.png" for number in range(ANOMALOUS)}


def test_states_in_any_spelling_and_several_kinds_of_defect(tmp_path: Path) -> None:
    states(tmp_path, "OK", "crack")
    states(tmp_path, None, "Hole")
    (tmp_path / "test").rename(tmp_path / "Test")

    assert counts(read(StateFolders(), tmp_path)) == (1, NORMAL, 2 * ANOMALOUS)


def test_states_all_anomalous_or_without_masks(tmp_path: Path) -> None:
    alone = read(StateFolders(), states(tmp_path / "alone", normal=None))
    without = read(StateFolders(truth=None), states(tmp_path / "without", tail=None))

    assert counts(alone) == (0, 0, ANOMALOUS)
    assert masks(without) == set()
    assert counts(without) == (1, NORMAL, ANOMALOUS)


@pytest.mark.parametrize(
    "repackaged", ["DAGM", "SDD", "HeadCT", "Br35H", "BrainMRI", "ISIC", "ColonDB", "Endo", "RSDD"]
)
def test_what_research_code_repackages_like_mvtec(tmp_path: Path, repackaged: str) -> None:
    """The copies of AdaCLIP, AnomalyCLIP and Bayes-PFL."""
    folder = {
        "DAGM": "DAGM_anomaly_detection/Class1", "SDD": "electrical commutators", "HeadCT": "headct", "Br35H": "br35h",
        "BrainMRI": "brain_mri", "ISIC": "isic", "ColonDB": "ColonDB", "Endo": "endo", "RSDD": "Metal15",
    }[repackaged]  # fmt: skip
    without_normal, without_masks = (
        repackaged in {"ISIC", "ColonDB", "Endo"},
        repackaged in {"HeadCT", "Br35H", "BrainMRI"},
    )
    states(
        tmp_path / folder,
        normal=None if without_normal else "good",
        tail=None if without_masks else "_label" if repackaged == "DAGM" else "_mask",
        suffix=".PNG" if repackaged == "DAGM" else ".png",
    )
    datamodule = getattr(data, repackaged)(tmp_path)
    datamodule.setup("test")

    assert Counter(datamodule.test_data.samples["label_index"]) == {1: ANOMALOUS} | (
        {} if without_normal else {0: NORMAL}
    )
    assert datamodule.task == ("classification" if without_masks else "segmentation")


def test_skin_masks_beside_the_test_folder(tmp_path: Path) -> None:
    """AnomalyCLIP's copy of ISIC."""
    truth = "ISBI2016_ISIC_Part1_Test_GroundTruth"
    image(tmp_path / "skin" / "test" / "skin cancer" / "ISIC_1.jpg", anomalous=True)
    mask(tmp_path / "skin" / truth / "ISIC_1_Segmentation.png")
    datamodule = data.ISIC(tmp_path)
    datamodule.setup("test")

    assert int(datamodule.test_data[0].gt_mask.sum()) == DEFECT_AREA


@pytest.mark.parametrize(("name", "inner"), [
    ("BTAD", "BTech_Dataset_transformed"), ("DAGM", "DAGM_KaggleUpload"), ("DTDSynthetic", "DTD-Synthetic"),
    ("RSDD", "RSDDs dataset"), ("SDD", "KolektorSDD"), ("COVID19", "COVID-19_Radiography_Dataset"),
    ("Endo", "EndoTect_2020_Segmentation_Test_Dataset"), ("Kvasir", "Kvasir-SEG"),
])  # fmt: skip
def test_the_folder_of_the_archive_may_stay(tmp_path: Path, name: str, inner: str) -> None:
    TREES[name](tmp_path / inner)
    datamodule = getattr(data, name)(tmp_path)
    datamodule.prepare_data()
    datamodule.setup("test")

    assert datamodule.test_data.categories == sorted(datamodule.parts())


def test_files_that_are_no_images_are_left_out(tmp_path: Path) -> None:
    images_masks(tmp_path)
    for name in ("._1.png", "Thumbs.db", "bbox.json"):
        (tmp_path / "images" / name).touch()

    assert names(read(ImageMaskFolders(), tmp_path), LabelName.ABNORMAL) == ["1.png", "2.png"]


@pytest.mark.parametrize(
    ("suffix", "mask_suffix"), [(".tif", ".tif"), (".jpg", ".png"), (".jpg", ".jpg"), (".png", ".png")]
)
def test_images_and_masks_of_any_format(tmp_path: Path, suffix: str, mask_suffix: str) -> None:
    images_masks(tmp_path, suffix, mask_suffix, ("Original", "Ground Truth"))
    datamodule = data.ClinicDB(tmp_path)
    datamodule.setup("test")

    assert all(item.gt_mask.sum() == DEFECT_AREA for item in datamodule.test_data)


def test_masks_in_jpeg_are_cut_between_the_grey_levels(tmp_path: Path) -> None:
    images_masks(tmp_path, ".jpg", ".jpg")
    levels = np.asarray(Image.open(tmp_path / "masks" / "1.jpg").convert("L"))
    assert (levels > 0).sum() > DEFECT_AREA, "this JPEG is not smeared: the test would show nothing"

    datamodule = data.Kvasir(tmp_path)
    datamodule.setup("test")

    assert [int(item.gt_mask.sum()) for item in datamodule.test_data] == [DEFECT_AREA] * ANOMALOUS


def test_masks_without_losses_count_every_level(tmp_path: Path) -> None:
    for number in (1, 2):
        image(tmp_path / "images" / f"{number}.png", anomalous=True)
        mask(tmp_path / "masks" / f"{number}.png", level=1)
        mask(tmp_path / "masks" / f"{number}.jpg", anomalous=False)
    datamodule = data.ColonDB(tmp_path)
    datamodule.setup("test")

    assert all(item.gt_mask.sum() == DEFECT_AREA for item in datamodule.test_data)


def test_a_mask_that_is_missing_shifts_no_other(tmp_path: Path) -> None:
    images_masks(tmp_path)
    (tmp_path / "masks" / "1.png").rename(tmp_path / "masks" / "3.png")

    with pytest.raises(
        FileNotFoundError, match=r"Anomalous image .*1\.png has no mask: expected .*masks, got 2 others"
    ):
        ImageMaskFolders().read(tmp_path)


def test_missing_folders_of_masks_are_named(tmp_path: Path) -> None:
    shutil.rmtree(states(tmp_path / "states") / "ground_truth")
    bmad(tmp_path / "bmad", masks="truth")

    with pytest.raises(FileNotFoundError, match=r"No folder of masks in .*states: expected ground_truth"):
        StateFolders().read(tmp_path / "states")
    with pytest.raises(FileNotFoundError, match=r"No folder of masks in .*Ungood: expected label or anomaly_mask"):
        BMADFolders().read(tmp_path / "bmad" / "Brain")


def test_dagm_masks_say_which_images_are_defective(tmp_path: Path) -> None:
    samples = read(MaskIfDefective(), TREES["DAGM"](tmp_path) / "Class1")

    assert counts(samples) == (NORMAL, NORMAL, ANOMALOUS)
    assert names(samples, LabelName.ABNORMAL) == ["0000.PNG", "0001.PNG"]


def test_only_numbered_images_with_a_mask_are_of_ksdd2(tmp_path: Path) -> None:
    samples = read(MaskBeside(), TREES["KSDD2"](tmp_path))

    assert names(samples, LabelName.NORMAL) == ["20002.png", "20003.png", "20004.png"]
    assert names(samples, LabelName.ABNORMAL) == ["20000.png", "20001.png"]
    assert counts(samples)[0] == NORMAL


@pytest.mark.parametrize("name", ["RSDD", "KSDD2"])
def test_positive_and_negative_tiles(tmp_path: Path, name: str) -> None:
    """Bayes-PFL's tiles, before its own repackaging."""
    for number in range(2):
        image(tmp_path / "neg" / f"metal-null-{number:06d}.jpg")
        mask(tmp_path / "neg" / f"metal-null-{number:06d}.png", anomalous=False)
    image(tmp_path / "pos" / "metal-defect-000000.jpg", anomalous=True)
    mask(tmp_path / "pos" / "metal-defect-000000.png")

    assert counts(read(PosNeg(), tmp_path)) == (0, 2, 1)
    datamodule = getattr(data, name)(tmp_path)
    datamodule.setup("test")
    assert sum(int(item.gt_mask.sum()) for item in datamodule.test_data) == DEFECT_AREA


@pytest.mark.parametrize("masks", ["label", "anomaly_mask"])
@pytest.mark.parametrize("names", ["{}", "{}_AD"])
def test_bmad_under_both_names(tmp_path: Path, masks: str, names: str) -> None:
    datamodule = data.BMADSegmentation(bmad(tmp_path, masks, names))
    datamodule.setup("test")

    assert datamodule.test_data.categories == ["Brain", "Liver", "Retina_RESC"]
    assert len(datamodule.test_data) == 3 * (NORMAL + ANOMALOUS)
    assert all(masks not in Path(path).parts for path in datamodule.test_data.samples["image_path"])


def test_bmad_without_training_images_refers_to_valid(tmp_path: Path) -> None:
    folder = bmad(tmp_path) / "Brain"
    with_training = read(BMADFolders(), folder)
    shutil.rmtree(folder / "train")
    without = read(BMADFolders(), folder)

    assert counts(with_training) == (1, NORMAL, ANOMALOUS)
    assert counts(without) == (NORMAL, NORMAL, ANOMALOUS)
    assert all("valid" in path for path in without[without["split"] == Split.TRAIN.value]["image_path"])


def test_all_spellings_of_suffixes_are_found_once(tmp_path: Path) -> None:
    samples = read(TwoFolders(), TREES["BrainMRI"](tmp_path))

    assert names(samples, LabelName.NORMAL) == ["1 no.jpeg", "10no.jpg", "N1.JPG"]
    assert names(samples, LabelName.ABNORMAL) == ["Y1.jpg", "Y100.JPG"]


@pytest.mark.parametrize("covid", ["COVID", "COVID-19", "covid19"])
def test_x_rays_of_older_releases(tmp_path: Path, covid: str) -> None:
    image(tmp_path / "NORMAL" / "NORMAL (1).png")
    image(tmp_path / covid / "COVID-19 (1).png", anomalous=True)
    image(tmp_path / "Viral Pneumonia" / "1.png", anomalous=True)
    datamodule = data.COVID19(tmp_path)
    datamodule.setup("test")

    assert names(datamodule.test_data.samples, LabelName.NORMAL) == ["NORMAL (1).png"]
    assert names(datamodule.test_data.samples, LabelName.ABNORMAL) == ["COVID-19 (1).png"]


def test_head_ct_labels_go_by_column_and_number(tmp_path: Path) -> None:
    head_ct(tmp_path)
    (tmp_path / "labels.csv").write_text("id, hemorrhage\n4,0\n0, 1\n")

    samples = read(LabelsCsv(), tmp_path)

    assert names(samples, LabelName.NORMAL) == ["004.png"]
    assert names(samples, LabelName.ABNORMAL) == ["000.png"]


@pytest.mark.parametrize(
    ("row", "error", "complaint"),
    [
        ("7,1", FileNotFoundError, r"names image 007, expected it in .*head_ct"),
        ("1,yes", ValueError, "has the row '1', 'yes', expected the number of an image and 0 or 1"),
        ("a.png,1", ValueError, "has the row 'a.png', '1'"),
    ],
)
def test_head_ct_rows_that_make_no_sense(tmp_path: Path, row: str, error: type[Exception], complaint: str) -> None:
    head_ct(tmp_path)
    (tmp_path / "labels.csv").write_text(f"id, hemorrhage\n{row}\n")

    with pytest.raises(error, match=complaint):
        LabelsCsv().read(tmp_path)


def test_commutators_are_cut_into_thirds(tmp_path: Path) -> None:
    samples = read(CommutatorTiles(), sdd(tmp_path))

    # 27 tiles, of which 2 have a defect; 6 is nearest to a quarter of 25.
    assert counts(samples) == (19, 6, 2)
    assert names(samples, LabelName.ABNORMAL) == ["kos01_Part0_0.png", "kos02_Part0_0.png"]
    assert all(Image.open(path).size == (16, 16) for path in samples["image_path"])
    assert samples.groupby("group").size().to_dict() == {f"kos{n:02d}_Part{k}": 3 for n in (1, 2, 3) for k in (0, 1, 2)}


def test_rails_are_cut_into_squares_to_their_end(tmp_path: Path) -> None:
    samples = read(RailTiles(), rsdd(tmp_path))

    anomalous = names(samples, LabelName.ABNORMAL)
    assert anomalous == sorted(
        ["I_rail_1_0.png", "I_rail_2_0.png"] + [f"II_rail_{n}_{k}.png" for n in (1, 2) for k in (0, 4)]
    )
    # As many normal ones of either type; the others are references.
    assert Counter(name.split("_")[0] for name in names(samples, LabelName.NORMAL)) == {"I": 2, "II": 4}
    assert counts(samples) == (20 - 6 - 6, 6, 6)
    for path in samples["image_path"]:
        side = 16 if Path(path).name.startswith("I_") else 24
        assert Image.open(path).size == (side, side)


def test_tiles_are_the_same_anywhere_and_cut_once(tmp_path: Path) -> None:
    first, second = (CommutatorTiles().read(sdd(tmp_path / name)) for name in ("here", "there"))
    tile = Path(first["image_path"][0])
    written = tile.stat().st_mtime_ns
    again = CommutatorTiles().read(tmp_path / "here")

    assert [path.replace("here", "there") for path in first["image_path"]] == list(second["image_path"])
    assert list(again["image_path"]) == list(first["image_path"])
    assert tile.stat().st_mtime_ns == written


def test_tiles_are_all_there_or_none(tmp_path: Path) -> None:
    root = sdd(tmp_path)
    damaged = root / "kos03" / "Part2_label.bmp"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:100])
    (root / ".tiles-of-a-killed-process/test").mkdir(parents=True)
    os.utime(root / ".tiles-of-a-killed-process", (0, 0))

    with pytest.raises(OSError, match=r"Part2_label\.bmp cannot be read"):
        CommutatorTiles().prepare(root)
    assert sorted(path.name for path in root.iterdir()) == ["kos01", "kos02", "kos03"]

    damaged.write_bytes(whole)
    assert counts(CommutatorTiles().read(root)) == (19, 6, 2)


def test_a_root_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> str:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)

    with pytest.raises(OSError, match=r"cut into tiles, expected to be able to write there \(Read-only file system\)"):
        CommutatorTiles().prepare(sdd(tmp_path))


def test_tiles_of_another_process_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, rename = sdd(tmp_path), Path.rename

    def slow(path: Path, target: Path) -> Path:
        if target == root / "tiles":
            states(target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", slow)
    CommutatorTiles().prepare(root)

    assert counts(StateFolders().read(root / "tiles")) == (1, NORMAL, ANOMALOUS)
    assert sorted(path.name for path in root.iterdir()) == ["kos01", "kos02", "kos03", "tiles"]


def test_a_smaller_edition_of_the_same_name_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        data.ClinicDB(images_masks(tmp_path)).setup("test")

    assert "has 0 normal and 2 anomalous test images, expected 0 normal and 612 anomalous: figures will" in caplog.text
