from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.classification import binary_auroc

from anomalib_zsad.benchmark.case_files import case_columns, read_cases, save_cases
from anomalib_zsad.benchmark.cases import KINDS, CaseKeeper, Shown, agreement_of
from anomalib_zsad.evaluation.scored_image import ScoredImage

SIZE = 24


def scored(folder: Path, count: int = 30, seed: int = 0, category: str = "cable", masks: bool = True) -> list:
    """Random results for the same drawn images, every third of them normal."""
    results, randoms = [], np.random.default_rng(seed)
    for number in range(count):
        path = folder / category / ("cut" if number % 3 else "good") / f"{number:03d}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), (number, 100, 0)).save(path)
        mask = np.zeros((SIZE, SIZE), bool)
        mask[4 : 4 + number % 5 + 2, 3:9] = bool(number % 3)
        pixels = (randoms.random((SIZE, SIZE)) * 0.5 + 0.1 * mask).astype(np.float32)
        score = float(randoms.random())
        results.append(ScoredImage(str(path), score, bool(number % 3), pixels, mask if masks else None))
    return results


def shown(results: list, category: str = "cable", keeper: CaseKeeper | None = None) -> Shown:
    keeper = keeper or CaseKeeper()
    for result in results:
        keeper.add(category, result)
    return keeper.shown()


def names(cases: list) -> list[str]:
    """The files of cases, or of results."""
    return [Path(getattr(case, "name", None) or case.path).name for case in cases]


def test_agreement_is_the_auroc_of_the_pixels(tmp_path: Path) -> None:
    for result in scored(tmp_path, 8):
        if result.label:
            expected = binary_auroc(torch.from_numpy(result.anomaly_map), torch.from_numpy(result.mask).int())
            assert agreement_of(result.anomaly_map, result.mask) == pytest.approx(expected.item(), abs=1e-4)


def test_a_flat_map_agrees_with_nothing() -> None:
    assert agreement_of(np.full((2, 2), 0.3, np.float32), np.eye(2, dtype=bool)) == 0.5


def test_a_case_whose_picture_cannot_be_read_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    results = scored(tmp_path, 4)
    Path(results[1].path).unlink()
    cases = shown(results)
    assert names(cases["best"]) == names([results[2]])
    assert f"No picture of {results[1].path}" in caplog.text


@pytest.mark.parametrize("mask", [None, np.zeros((2, 2), bool), np.ones((2, 2), bool)])
def test_without_two_sorts_of_pixels_there_is_no_agreement(mask: np.ndarray | None) -> None:
    assert agreement_of(np.eye(2, dtype=np.float32), mask) is None


def test_the_best_the_worst_and_the_false_alarms_are_those_of_a_full_sort(tmp_path: Path) -> None:
    results = scored(tmp_path)
    kept = shown(results)
    by_agreement = sorted(
        (each for each in results if each.label), key=lambda each: agreement_of(each.anomaly_map, each.mask)
    )
    normal = sorted((each for each in results if not each.label), key=lambda each: -each.score)
    assert names(kept["best"]) == names(by_agreement[::-1][:4])
    assert names(kept["worst"]) == names(by_agreement[:4])
    assert names(kept["false alarms"]) == names(normal[:4])


def test_without_masks_the_image_score_tells_best_from_worst(tmp_path: Path) -> None:
    results = scored(tmp_path, masks=False)
    by_score = sorted((each for each in results if each.label), key=lambda each: each.score)
    kept = shown(results)
    assert names(kept["worst"]) == names(by_score[:4])
    assert names(kept["best"]) == names(by_score[::-1][:4])
    assert kept["best"][0].agreement is None


def test_every_detector_has_the_same_images_by_chance_whatever_it_scores_and_in_any_order(tmp_path: Path) -> None:
    one, other = scored(tmp_path, seed=0), scored(tmp_path, seed=1)[::-1]
    kept, reversed_ = shown(one), shown(other)
    assert names(kept["by chance"]) == names(reversed_["by chance"])
    assert names(kept["best"]) != names(reversed_["best"])
    assert len(kept["by chance"]) == 6


def test_categories_take_turns(tmp_path: Path) -> None:
    keeper = CaseKeeper()
    for category, count in (("cable", 30), ("nut", 30), ("pill", 4)):
        shown(scored(tmp_path, count, category=category), category, keeper)
    drawn = [case.category for case in keeper.shown()["by chance"]]
    assert set(drawn[:3]) == set(drawn[3:]) == {"cable", "nut", "pill"}


def test_the_maps_of_a_category_have_one_scale_from_its_lowest_to_its_highest_pixel(tmp_path: Path) -> None:
    results = scored(tmp_path, 4)
    flat = [0.0, 0.25, 0.5, 1.0]
    pixels = [np.full((SIZE, SIZE), value, np.float32) for value in flat]
    kept = shown([ScoredImage(r.path, r.score, r.label, p, r.mask) for r, p in zip(results, pixels, strict=True)])
    levels = {name: int(case.levels.max()) for kind in KINDS for case in kept[kind] for name in names([case])}
    assert levels == {"000.png": 0, "001.png": 64, "002.png": 128, "003.png": 255}


def test_on_its_own_scale_every_map_uses_all_levels(tmp_path: Path) -> None:
    kept = shown(scored(tmp_path), keeper=CaseKeeper(common_scale=False))
    assert {(case.levels.min(), case.levels.max()) for kind in KINDS for case in kept[kind]} == {(0, 255)}


def test_what_is_kept_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    few, many = (shown(scored(tmp_path, count)) for count in (30, 120))
    assert {kind: len(cases) for kind, cases in few.items()} == {kind: len(cases) for kind, cases in many.items()}


def test_images_without_label_or_map_are_passed_over(tmp_path: Path) -> None:
    (normal, first, *_) = scored(tmp_path, 4)
    unknown = [
        ScoredImage(first.path, 0.5, None, first.anomaly_map, None),
        ScoredImage(normal.path, 0.5, False, None, None),
    ]
    assert not any(shown(unknown).values())


def test_cases_come_back_from_their_file_which_is_small(tmp_path: Path) -> None:
    kept = shown(scored(tmp_path))
    save_cases(tmp_path / "cases.npz", kept)
    read = read_cases(tmp_path / "cases.npz")
    assert list(read) == list(KINDS)
    for kind in KINDS:
        assert len(read[kind]) == len(kept[kind]) > 0
        for one, other in zip(read[kind], kept[kind], strict=True):
            assert (one.key, one.score, one.agreement) == (other.key, other.score, other.agreement)
            for name in ("image", "truth", "levels"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (tmp_path / "cases.npz").stat().st_size < 200_000 * len(
        {case.key for each in kept.values() for case in each}
    )


def test_nothing_kept_is_a_file_too(tmp_path: Path) -> None:
    save_cases(tmp_path / "cases.npz", shown([]))
    assert not any(read_cases(tmp_path / "cases.npz").values())


def test_a_page_has_columns_for_what_there_is(tmp_path: Path) -> None:
    titles = [title.split(":")[0] for title, _ in case_columns(shown(scored(tmp_path)))]
    assert titles == ["Best", "Worst", "False alarms"]
    anomalous = [each for each in scored(tmp_path) if each.label]
    assert [title.split(":")[0] for title, _ in case_columns(shown(anomalous))] == ["Best", "Worst"]
    (_, rows), *_ = case_columns(shown(anomalous))
    assert rows[0].caption.startswith("cable, cut: score ")
    assert [picture.mode for picture in rows[0].pictures] == ["RGB", "L", "RGB"]
