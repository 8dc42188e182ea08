import re

import numpy as np
import open_clip
from hypothesis import given, settings
from hypothesis import strategies as st

from anomalib_zsad.models.acd_clip.prompts import ABNORMAL_STATES, NORMAL_STATES, TEMPLATES
from anomalib_zsad.synthetic.drawing import CATEGORIES, DEFECTS, Picture, caption, draw

NAMES = list(CATEGORIES)
WORDS = "without with defect good damaged normal perfect abnormal defective flawless photo of a the object"
BAD = {"damaged", "broken", "defective", "abnormal", "flawed", "faulty"}


def picture(number: int, defect: bool) -> Picture:
    category = NAMES[number % len(NAMES)]
    kinds = CATEGORIES[category].defects
    return draw(category, number, kinds[number % len(kinds)] if defect else None, 48)


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[a-z-]+", text.lower()))


def vocabulary(count: int = 20) -> dict[bool, set[str]]:
    """Words of captions of normal pictures and of defective ones."""
    generator = np.random.default_rng(0)
    return {
        defect: set().union(
            *(
                words_of(caption(shown, generator))
                for n in range(240)
                for shown in [picture(n, defect)]
                for _ in range(count)
            )
        )
        for defect in (False, True)
    }


def test_the_words_of_the_prompts_occur() -> None:
    heard = vocabulary()
    prompts = " ".join([*NORMAL_STATES, *ABNORMAL_STATES, *TEMPLATES])

    print(len(heard[False] | heard[True]), "words")
    assert words_of(f"{WORDS} {prompts}") <= heard[False] | heard[True]
    assert 180 <= len(heard[False] | heard[True]) <= 320
    assert not BAD & heard[False]
    assert not {"flawless", "perfect", "good", "without"} & heard[True]
    faults = ["scratch", "crack", "hole", "dent", "stain", "burn", "deformation", "misprint", "fracture", "smudge"]
    assert heard[True].issuperset(faults)


def test_every_category_and_defect_has_words() -> None:
    generator = np.random.default_rng(1)
    for category, kind in CATEGORIES.items():
        said = {caption(draw(category, 0, None, 32), generator) for _ in range(12)}
        assert len(said) > 6
        for defect in kind.defects:
            shown = Picture(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1), bool), category, "steel", defect,
                            {"colour": "red", "background": "", "place": "left", "size": "large"})  # fmt: skip
            assert all(caption(shown, generator) for _ in range(4))
    assert set(DEFECTS) == {defect for kind in CATEGORIES.values() for defect in kind.defects}


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.booleans())
def test_captions_fit_into_the_context(number: int, defect: bool) -> None:
    shown = picture(number, defect)
    texts = [caption(shown, np.random.default_rng([number, n])) for n in range(8)]

    tokens = open_clip.tokenize(texts)
    assert (tokens != 0).sum(1).max() <= 40 < 77
    assert all(" a a" not in text and "  " not in text for text in texts)
    assert texts == [caption(shown, np.random.default_rng([number, n])) for n in range(8)]
