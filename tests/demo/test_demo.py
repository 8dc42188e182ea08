"""The drawn dataset, the page of pictures and the whole demonstration, smaller than a user sees it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from anomalib_zsad import AllCategories
from anomalib_zsad.demo import run
from anomalib_zsad.demo.dataset import Drawn, draw_dataset
from anomalib_zsad.demo.defects import DEFECTS
from anomalib_zsad.demo.sheet import Row, save_sheet
from anomalib_zsad.demo.things import SIZE, THINGS


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_mask_covers_what_the_defect_changes(thing: str, defect: str) -> None:
    picture, allowed = THINGS[thing](np.random.default_rng(1))
    changed, mask = DEFECTS[defect](np.random.default_rng(2), (picture, allowed))

    difference = np.abs(changed - picture).max(-1)
    assert 0 < mask.mean() < 0.15
    assert not mask[allowed == 0].any()
    assert difference[mask == 1].mean() > 10 * difference[mask == 0].mean()


@pytest.mark.parametrize("thing", THINGS)
def test_no_two_pictures_are_alike(thing: str) -> None:
    generator = np.random.default_rng(0)
    first, second = (THINGS[thing](generator)[0] for _ in range(2))

    assert first.shape == (SIZE, SIZE, 3)
    assert 0 <= first.min() < first.max() <= 1
    assert np.abs(first - second).mean() > 0.01


def test_the_dataset_is_read_and_follows_its_seed(tmp_path: Path) -> None:
    for name, categories, seed in (("a", ["wood", "button"], 0), ("b", ["button"], 0), ("c", ["button"], 1)):
        draw_dataset(tmp_path / name, categories, normal=2, anomalous=5, train=1, seed=seed)
    datamodule = AllCategories(Drawn(tmp_path / "a"), ["wood", "button"])
    datamodule.setup("test")

    assert len(datamodule.test_data) == 2 * 7
    assert datamodule.test_data.samples["label_index"].sum() == 2 * 5
    a, b, c = (np.asarray(Image.open(tmp_path / name / "button/test/hole/000.png")) for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_the_sheet_shows_image_truth_and_map(tmp_path: Path) -> None:
    truth = torch.zeros(8, 8, dtype=torch.bool)
    row = Row(Image.new("RGB", (8, 8), (255, 0, 0)), truth, torch.eye(8)[None], "words")
    save_sheet([("left", [row, row]), ("right", [row])], tmp_path / "sheet.png")

    colours = np.asarray(Image.open(tmp_path / "sheet.png")).reshape(-1, 3)
    assert {(255, 0, 0), (0, 0, 0), (0, 0, 143), (128, 0, 0)} <= set(map(tuple, colours.tolist()))


@pytest.mark.slow
def test_the_demonstration_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(run, "draw_dataset", lambda root, seed: draw_dataset(root, normal=4, anomalous=4, seed=seed))
    monkeypatch.setattr(run, "untrained_model", lambda seed, model=run.untrained_model: model(seed, epochs=1))
    run.run_demo(tmp_path)

    folder = tmp_path / "AFClip" / "Drawn" / "v0"
    table = pd.read_csv(folder / "metrics.csv")
    assert list(table["category"]) == ["biscuit", "button", "stone", "mean"]
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    told = capsys.readouterr().out
    for line in told.splitlines()[-7:]:
        if line.strip():
            assert Path(line.split()[-1]).exists()
