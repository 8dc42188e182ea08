import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from anomalib_zsad.benchmark.paired import ALL, holm, paired_tests, signed_rank_test


def tidy(values, metric="image_AUROC"):
    """Rows of (model, target, category, seed, value)."""
    rows = pd.DataFrame(values, columns=["model", "target", "category", "seed", "value"])
    return rows.assign(shots=None, images=4, metric=metric, note="")


def grid(seeds=(0, 1)):
    better = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
    return [
        (model, "MVTec", f"c{number}", seed, 0.8 + (gain if model == "a" else 0) + 0.1 * seed)
        for model in ("a", "b")
        for number, gain in enumerate(better)
        for seed in seeds
    ]


def test_a_detector_that_is_better_everywhere_has_the_exact_p_of_the_signed_ranks():
    (row,) = paired_tests(tidy(grid())).to_dict("records")
    assert (row["detector"], row["other"], row["categories"]) == ("a", "b", 6)
    assert row["difference"] == pytest.approx(0.035)
    assert row["p"] == row["p_holm"] == pytest.approx(2 / 2**6)  # one of 2^6 signs to either side


def test_seeds_are_no_further_cases_and_only_common_categories_count():
    (once,), (thrice,) = (
        paired_tests(tidy([row for row in grid(seeds) if row[:3] != ("b", "MVTec", "c0")])).to_dict("records")
        for seeds in ((0,), (0, 1, 2))
    )
    assert once["categories"] == thrice["categories"] == 5
    assert once["p"] == pytest.approx(thrice["p"]) == pytest.approx(2 / 2**5)


def test_all_targets_are_tested_together_too():
    other = [(model, "BTAD", name, seed, value) for model, _, name, seed, value in grid()]
    found = paired_tests(tidy(grid() + other)).set_index("target")
    assert found["categories"].to_dict() == {"MVTec": 6, "BTAD": 6, ALL: 12}
    assert found.loc[ALL, "p"] < found.loc["MVTec", "p"]


def test_equal_detectors_do_not_differ():
    same = [(model, *rest) for model in "xy" for _, *rest in grid()[:12]]
    assert paired_tests(tidy(same))["p"].tolist() == [1.0]
    assert paired_tests(tidy(grid()[:12])).empty


def test_p_is_that_of_wilcoxons_test():
    draw = np.random.default_rng(0)
    for number in (5, 9, 12):
        difference = draw.normal(0.5, 1, number)
        assert signed_rank_test(difference) == pytest.approx(wilcoxon(difference).pvalue)
    assert signed_rank_test(draw.normal(0.5, 1, 40)) < 0.05


def test_holm_corrects_by_the_number_of_tests_that_are_left():
    assert holm(np.array([0.04, 0.01, 0.03])) == pytest.approx([0.06, 0.03, 0.06])
    assert holm(np.array([0.6, 0.9])) == pytest.approx([1, 1])
