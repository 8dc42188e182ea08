import numpy as np
import pytest

from anomalib_zsad.evaluation import intervals
from anomalib_zsad.evaluation.category_scores import CategoryScores
from anomalib_zsad.evaluation.intervals import ImageBins, with_intervals
from anomalib_zsad.evaluation.scored_image import ScoredImage
from anomalib_zsad.evaluation.table import results_table


def images(seed, normal=12, anomalous=12, size=16):
    """Images whose scores tell them apart somewhat."""
    draw = np.random.default_rng(seed)
    for number in range(normal + anomalous):
        mask = np.zeros((size, size), bool)
        if number >= normal:
            mask[2:6, 3:9] = mask[10:12, 10:14] = True
        scores = 1 / (1 + np.exp(-(draw.normal(-3, 1, mask.shape) + 1.5 * mask)))
        score = 1 / (1 + np.exp(-draw.normal(number >= normal)))
        yield ScoredImage(f"{number}.png", float(score), number >= normal, scores.astype(np.float32), mask)


def result(each, wanted=True):
    scores = CategoryScores(images=ImageBins() if wanted else None)
    for image in each:
        scores.add(image)
    return scores.result()


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 200)


def test_bins_of_single_images_give_what_all_pixels_give():
    bins, exact = ImageBins(), result(images(0), wanted=False).values
    for image in images(0):
        bins.add(image)
    pixels = intervals._Pixels(bins.pixels, bins.regions)
    binned = intervals._ranking("pixel", pixels.curve(np.ones(len(bins.scores), int)))
    assert {name: exact[name] for name in binned} == pytest.approx(binned, abs=3e-3)


def test_an_interval_holds_the_value_and_is_that_of_drawn_images():
    results = {"a": result(images(0)), "b": result(images(1))}
    table = with_intervals(results_table(results), results).set_index("category")
    for name in ("image_AUROC", "image_AP", "image_F1Max", "pixel_AUROC", "pixel_AP", "pixel_F1Max", "pixel_AUPRO"):
        low, high = table[f"{name}_low"], table[f"{name}_high"]
        assert ((low < table[name]) & (table[name] < high)).all()
        width = high - low
        assert width["mean"] < max(width["a"], width["b"])
    # DeLong's standard error of the AUROC of 12 and 12 images, 3 of them to either side but for skew.
    score = np.array([image.score for image in images(0)])
    pairs = (score[12:, None] > score[:12]).astype(float)
    error = np.sqrt(pairs.mean(1).var(ddof=1) / 12 + pairs.mean(0).var(ddof=1) / 12)
    width = table.loc["a", "image_AUROC_high"] - table.loc["a", "image_AUROC_low"]
    assert width == pytest.approx(2 * 1.96 * error, rel=0.3)
    again = result(images(0)).resampled
    assert all(np.array_equal(values, again[name]) for name, values in results["a"].resampled.items())


def test_what_cannot_be_drawn_has_no_interval():
    results = {"one": result(images(0, anomalous=1)), "a": result(images(1)), "all": result(images(2, normal=0))}
    table = with_intervals(results_table(results), results).set_index("category")
    assert table.loc["one", "image_AUROC_low":].isna().all()
    assert table.loc["all", ["image_AUROC_low", "pixel_AUPRO_low"]].isna().tolist() == [True, False]
    assert table.loc["mean", "image_AUROC_low":].isna().all()
    del results["one"]
    table = with_intervals(results_table(results), results).set_index("category")
    assert table.loc["mean", "image_AUROC_low"] == table.loc["a", "image_AUROC_low"]


def test_without_the_wish_the_table_stays_as_it_is():
    results = {"a": result(images(0), wanted=False)}
    assert list(with_intervals(results_table(results), results)) == list(results_table(results))
