"""What all published datasets share, each on a tree in its own layout; their oddities are in `test_layouts`."""

import logging
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import anomalib.data
import pytest
from anomalib import TaskType
from anomalib.data import AnomalibDataModule
from anomalib.engine import Engine
from jsonargparse._typehints import get_all_subclass_paths, resolve_class_path_by_name
from PIL import Image
from torchvision.transforms.v2 import Resize

import anomalib_zsad
from anomalib_zsad import data
from anomalib_zsad.data import AllCategories, Auxiliary
from anomalib_zsad.data.known_set import KnownSet
from anomalib_zsad.data.names import dataset_key, domain_of
from anomalib_zsad.image_files import SUFFIXES
from tests.support.known_trees import ANOMALOUS, DEFECT_AREA, DTD, NORMAL, TREES
from tests.support.small_clip import IMAGE_SIZE

CATEGORIES = {
    "BTAD": ("01", "02", "03"),
    "DAGM": tuple(f"Class{number}" for number in range(1, 11)),
    "DTDSynthetic": DTD,
    "KSDD2": ("metal",),
    "RSDD": ("rail",),
    "SDD": ("electrical_commutator",),
    "BMADSegmentation": ("Brain", "Liver", "Retina_RESC"),
    "BrainMRI": ("brain",),
    "Br35H": ("brain",),
    "HeadCT": ("head",),
    "COVID19": ("chest",),
    "ISIC": ("skin",),
    "TN3K": ("thyroid",),
} | dict.fromkeys(("ColonDB", "ClinicDB", "Kvasir", "CVC300", "Endo"), ("colon",))
INDUSTRIAL = {"BTAD", "DAGM", "DTDSynthetic", "KSDD2", "RSDD", "SDD"}
WITHOUT_MASKS = {"BrainMRI", "Br35H", "HeadCT", "COVID19"}
WITHOUT_NORMAL = {"ISIC", "ColonDB", "ClinicDB", "Kvasir", "CVC300", "Endo", "TN3K"}
WITH_TRAINING = {"BTAD": 1, "DAGM": NORMAL, "DTDSynthetic": 1, "KSDD2": NORMAL, "BMADSegmentation": 1}
# Normal and anomalous tiles: 27 and 2 from 9 pictures of three; of rails as many normal ones as anomalous.
TILES = {"SDD": (6, 2), "RSDD": (6, 6)}


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tree(tmp_path_factory.mktemp(name)) for name, tree in TREES.items()}


def made(name: str, root: Path, **arguments: object) -> KnownSet:
    return getattr(data, name)(root, num_workers=0, **arguments)


@pytest.fixture(params=list(TREES))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def expected(name: str) -> tuple[int, int]:
    return TILES.get(name, (0 if name in WITHOUT_NORMAL else NORMAL, ANOMALOUS))


def test_every_image_with_its_label_mask_and_category(name: str, roots: dict[str, Path]) -> None:
    datamodule = made(name, roots[name])
    datamodule.prepare_data()
    datamodule.setup("test")
    items = list(datamodule.test_data)

    counts = Counter((item.category, int(item.gt_label)) for item in items)
    normal, anomalous = expected(name)
    assert counts == +Counter(
        {(category, label): count for category in CATEGORIES[name] for label, count in ((0, normal), (1, anomalous))}
    )
    assert len({item.image_path for item in items}) == len(items)
    assert datamodule.name == name
    if name in WITHOUT_MASKS:
        assert datamodule.task == TaskType.CLASSIFICATION
        assert all(item.gt_mask is None for item in items)
    else:
        assert datamodule.task == TaskType.SEGMENTATION
        assert all(int(item.gt_mask.sum()) == DEFECT_AREA * int(item.gt_label) for item in items)
    # A defect is brighter than anything else: the pictures are the right ones, and not their masks.
    assert all(bool(0.6 < item.image.max() < 0.995) == bool(item.gt_label) for item in items)


def test_domain(name: str) -> None:
    assert domain_of(made(name, Path())) == ("industrial" if name in INDUSTRIAL else "medical")


def test_the_name_is_free_and_found_by_the_command_line(name: str) -> None:
    assert getattr(anomalib.data, name) is getattr(data, name)  # none of anomalib's own
    assert name in anomalib_zsad.__all__
    assert name in data.__all__
    assert resolve_class_path_by_name(AnomalibDataModule, name).startswith("anomalib_zsad.")
    assert getattr(anomalib_zsad, name) is getattr(data, name)


def test_as_target_and_in_all_categories(name: str, roots: dict[str, Path], mvtec_root: Path) -> None:
    last = CATEGORIES[name][-1]
    arguments = {"eval_batch_size": 2, "num_workers": 0, "augmentations": Resize((16, 16))}
    chosen = made(name, roots[name], categories=[last])
    for datamodule in (
        AllCategories(made(name, roots[name]), categories=[last], **arguments),
        Auxiliary(anomalib.data.MVTecAD(mvtec_root), categories=["bottle"], target=chosen, **arguments),
    ):
        datamodule.prepare_data()
        datamodule.setup("test")
        batches = list(datamodule.test_dataloader())

        assert sum(map(len, batches)) == sum(expected(name))
        assert {category for batch in batches for category in batch.category} == {last}
        assert datamodule.task == (TaskType.CLASSIFICATION if name in WITHOUT_MASKS else TaskType.SEGMENTATION)
        assert domain_of(datamodule) == ("industrial" if name in INDUSTRIAL else "medical")


@pytest.mark.parametrize(("name", "missing"), [("HeadCT", "pixel"), ("ColonDB", "image")])
def test_a_model_is_tested_without_masks_and_without_normal_images(
    name: str, missing: str, roots: dict[str, Path], small_clip: Path, tmp_path: Path
) -> None:
    engine = Engine(default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False)
    model = anomalib_zsad.AFClip(pretrained=small_clip, image_size=IMAGE_SIZE)

    (metrics,) = engine.test(model, datamodule=made(name, roots[name]))

    assert {metric.split("_")[0] for metric in metrics} == {"image", "pixel"} - {missing}
    assert len(list((tmp_path / "AFClip" / name).rglob("*.png"))) + len(list(tmp_path.rglob("*.jpg"))) == sum(
        expected(name)
    )


def test_training_on_it(name: str, roots: dict[str, Path]) -> None:
    datamodule = made(name, roots[name], val_ratio=0.5)
    if name in WITHOUT_MASKS:
        with pytest.raises(ValueError, match=f"anomalous images of {name} have no masks"):
            datamodule.setup("fit")
        return
    datamodule.setup("fit")

    assert len(datamodule.train_data) + len(datamodule.val_data) == sum(expected(name)) * len(CATEGORIES[name])
    assert datamodule.training_sets == [f"{name}/{category}" for category in CATEGORIES[name]]


def test_references_are_no_test_images(name: str, roots: dict[str, Path]) -> None:
    datamodule = made(name, roots[name])
    category = CATEGORIES[name][0]
    if name not in WITH_TRAINING and name not in TILES:
        with pytest.raises(ValueError, match="no normal image that is not a test image"):
            datamodule.normal_images(category)
        return
    images = datamodule.normal_images(category)
    datamodule.setup("test")

    tested = set(datamodule.test_data.samples["image_path"])
    assert tested.isdisjoint(map(str, images))
    assert len(images) == WITH_TRAINING.get(name, len(images)) > 0


def test_a_category_is_a_datamodule_for_models_of_anomalib(name: str, roots: dict[str, Path]) -> None:
    part = made(name, roots[name]).parts()[CATEGORIES[name][0]]
    part.setup("fit")

    normal, anomalous = expected(name)
    labels = part.test_data.samples["label_index"]
    assert (len(labels) - labels.sum(), labels.sum()) == (normal, anomalous)
    assert len(part.val_data) == normal + anomalous
    assert not part.train_data.has_anomalous


def test_a_root_that_is_missing_or_holds_something_else_says_what_is_expected(name: str, tmp_path: Path) -> None:
    facts = getattr(data, name).facts
    (tmp_path / "holiday").mkdir()
    (tmp_path / "empty").mkdir()
    for root, state in (
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "empty", "is empty"),
        (tmp_path, "holds empty, holiday"),
    ):
        with pytest.raises(FileNotFoundError) as error:
            made(name, root).prepare_data()
        message = str(error.value)
        assert message.startswith(f"No {name} ")
        assert f"at {root}, which {state}: expected {facts.tree} there, from {facts.origin}." in message
        with pytest.raises(FileNotFoundError, match=f"No {name} "):
            made(name, root).setup("test")


def test_another_number_of_images_is_told_with_the_published_one(
    name: str, roots: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        made(name, roots[name]).setup("test")

    told = " ".join(record.getMessage() for record in caplog.records)
    if name == "RSDD":
        assert "2 strips of type I, expected 67" in told
        assert "2 strips of type II, expected 128" in told
        assert "test images" not in told
        return
    normal, anomalous = expected(name)
    for category, (first, *_) in getattr(data, name).facts.counts.items():
        words = first if isinstance(first, int) else f"{first[0]} normal and {first[1]} anomalous"
        assert f"{name}/{category} at {roots[name]} has {normal} normal and {anomalous} anomalous test images, " in told
        assert f"expected {words}" in told


def test_the_published_number_is_met_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = data.BTAD.facts
    monkeypatch.setattr(
        data.BTAD, "facts", type(facts)(**{**vars(facts), "counts": {"01": [(NORMAL, ANOMALOUS)], "02": [5]}})
    )
    with caplog.at_level(logging.WARNING):
        made("BTAD", TREES["BTAD"](tmp_path)).setup("test")

    assert not caplog.records


def test_published_numbers_add_up() -> None:
    totals = {"BTAD": (451, 290), "DTDSynthetic": (357, 947), "BMADSegmentation": (2514, 4499)}
    for name, total in totals.items():
        counts = [count for (count,) in getattr(data, name).facts.counts.values()]
        assert tuple(map(sum, zip(*counts, strict=True))) == total
    assert sum(count for (count,) in data.DAGM.facts.counts.values()) == 6996 + 1054


def test_categories_that_are_there_are_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = TREES["BMADSegmentation"](tmp_path)
    (root / "Liver").rename(root / "Liver_AD")
    (root / "Brain").rename(root / "somewhere else")

    datamodule = made("BMADSegmentation", root)
    datamodule.setup("test")

    assert datamodule.test_data.categories == ["Liver", "Retina_RESC"]
    assert "lacks Brain" in caplog.text
    with pytest.raises(FileNotFoundError, match="No BMADSegmentation category Brain at"):
        made("BMADSegmentation", root, categories=["Brain"]).prepare_data()


def test_what_is_no_dataset_is_not_offered_on_the_command_line() -> None:
    paths = get_all_subclass_paths(AnomalibDataModule)
    # No module that the command line imports imports the benchmark (tests/test_imports.py), as other tests do.
    offered = [path for path in paths if re.match(r"anomalib_zsad\.(?!benchmark\.)", path)]

    public = {name: getattr(anomalib_zsad, name) for name in anomalib_zsad.__all__}
    datamodules = [
        name for name, kind in public.items() if isinstance(kind, type) and issubclass(kind, AnomalibDataModule)
    ]
    assert sorted(path.rsplit(".")[-1] for path in offered) == sorted(datamodules)


def test_roots_have_defaults() -> None:
    assert data.ColonDB().source.root == Path("datasets/ColonDB")


@pytest.mark.parametrize(("ours", "anomalibs"), [("BTAD", "BTech"), ("SDD", "Kolektor"), ("BMADSegmentation", "BMAD")])
def test_the_same_dataset_is_known_as_such(ours: str, anomalibs: str) -> None:
    assert dataset_key(made(ours, Path())) == dataset_key(getattr(anomalib.data, anomalibs)())


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> Counter[str]:
    """Count the calls of a function by the path that it is called with."""
    original, seen = getattr(module, name), Counter[str]()

    def counting(path: Any, *rest: Any, **more: Any) -> Any:
        seen[str(path)] += 1
        return original(path, *rest, **more)

    monkeypatch.setattr(module, name, counting)
    return seen


def test_before_it_is_read_a_file_is_looked_at_once(
    name: str, roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = [counted(monkeypatch, os, "stat"), counted(monkeypatch, Image, "open")]
    datamodule = made(name, roots[name], val_ratio=0.5)
    datamodule.prepare_data()
    for stage in ("test",) if name in WITHOUT_MASKS else ("fit", "test"):
        datamodule.setup(stage)
    datamodule.normal_images(CATEGORIES[name][0]) if name in WITH_TRAINING else None

    files = [str(path) for path in roots[name].rglob("*") if path.suffix.lower() in SUFFIXES]
    assert len(files) >= len(datamodule.test_data)
    assert all(seen[path] <= 1 for seen in looked_at for path in files)
