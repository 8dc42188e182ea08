import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomalib_zsad.data.held_out import hold_out


@st.composite
def sample_frames(draw: st.DrawFn) -> pd.DataFrame:
    strata = draw(st.dictionaries(st.tuples(st.sampled_from("abc"), st.sampled_from([0, 1])), st.integers(1, 30)))
    rows = [
        {"image_path": f"root/{category}/{label}/{number:03d}.png", "category": category, "label_index": label}
        for (category, label), count in strata.items()
        for number in range(count)
    ]
    return pd.DataFrame(rows, columns=["image_path", "category", "label_index"])


def held_paths(samples: pd.DataFrame, ratio: float, seed: int) -> set[str]:
    return set(samples["image_path"][hold_out(samples, ratio, seed)])


@given(sample_frames(), st.floats(0.01, 0.99), st.integers(0, 2**31))
def test_every_stratum_with_two_samples_is_on_both_sides_in_the_wanted_share(
    samples: pd.DataFrame, ratio: float, seed: int
) -> None:
    held = hold_out(samples, ratio, seed)

    for _, rows in samples.assign(held=held).groupby(["category", "label_index"]):
        wanted = np.clip(ratio * len(rows), 1, max(len(rows) - 1, 1)) if len(rows) > 1 else 0
        assert abs(rows["held"].sum() - wanted) <= 0.5


@given(sample_frames(), st.floats(0, 0.99), st.integers(0, 2**31), st.randoms())
def test_the_choice_ignores_the_order_of_rows_their_root_and_other_categories(
    samples: pd.DataFrame, ratio: float, seed: int, random: object
) -> None:
    chosen = held_paths(samples, ratio, seed)
    order = list(range(len(samples)))
    random.shuffle(order)  # type: ignore[attr-defined]
    moved = samples.assign(image_path="elsewhere/" + samples["image_path"]) if len(samples) else samples

    assert held_paths(samples.iloc[order], ratio, seed) == chosen
    assert held_paths(moved, ratio, seed) == {f"elsewhere/{path}" for path in chosen}
    assert held_paths(samples[samples["category"] == "a"], ratio, seed) == {p for p in chosen if "/a/" in p}


@given(sample_frames(), st.integers(1, 5), st.integers(0, 2**31))
def test_near_duplicates_stay_together(samples: pd.DataFrame, pictures: int, seed: int) -> None:
    groups = (np.arange(len(samples)) // pictures).astype(str)
    samples = samples.assign(group=groups)

    held = hold_out(samples, 0.3, seed)

    assert (samples.assign(held=held).groupby(["category", "group"])["held"].nunique() <= 1).all()


def test_another_seed_chooses_other_samples() -> None:
    samples = pd.DataFrame({"image_path": [f"{i:03d}" for i in range(100)], "category": "a", "label_index": 0})

    assert held_paths(samples, 0.5, 0) != held_paths(samples, 0.5, 1)


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_a_share_out_of_range_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio must be a number in"):
        hold_out(pd.DataFrame(), ratio, seed=0)
