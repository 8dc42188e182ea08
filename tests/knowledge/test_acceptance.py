import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomalib_zsad.knowledge.acceptance import count_tokens, objection, shorten, tidy

GOOD = "A cup with a long dark crack below its handle."
LONG = (
    "A cup with a long dark crack below its handle, "
    + "a discolouration of the porcelain, " * 12
    + "and a chipped rim."
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A cracked cup.", "3 words"),
        ("word " * 61, "61 words"),
        ("antidisestablishmentarianism " * 20, "tokens of CLIP"),
        ("Чашка с длинной тёмной трещиной под ручкой.", "not English"),
        ("I cannot see the image that you mean, it is dark.", "refusal"),
        ("I'm sorry, but there is nothing I could tell.", "refusal"),
        ("As an AI language model I have never held a cup.", "refusal"),
        ("The cup has no visible defects on its whole surface.", "denies"),
        ("The cup appears normal in every way to me.", "denies"),
        ("A flawless white cup that stands on a table.", "denies"),
        ("a CUP with a long dark crack below its handle", "duplicate"),
    ],
)
def test_objections(text, reason):
    assert reason in objection(text, ["A cup without a handle on its side.", GOOD])


def test_good_descriptions():
    assert objection(GOOD) is None
    assert objection(GOOD, ["A cup with a chip broken out of its thin rim."]) is None
    assert objection("A cup whose handle is missing, so that no part of it can be held.") is None


def test_tokens_are_clips():
    import open_clip

    ids = open_clip.get_tokenizer("ViT-B-32")([GOOD])[0]
    assert count_tokens(GOOD) == int(ids.argmax()) - 1


def test_what_is_too_long_loses_its_last_clauses():
    assert count_tokens(LONG) > 75
    short = shorten(LONG)
    assert objection(short) is None
    assert LONG.startswith(short[:-1])
    assert short.endswith("porcelain.")


@pytest.mark.parametrize("end", ["", " and", " and, or", ", of", " in", " or with the", "; But"])
@pytest.mark.parametrize("rest", [", a discolouration of the porcelain", " which is a discolouration of porcelain"])
def test_what_was_shortened_ends_with_no_conjunction(end, rest):
    assert shorten(GOOD[:-1] + end + rest + " porcelain" * 70 + ".") == GOOD


def test_what_cannot_be_shortened_stays_and_is_refused():
    endless = "Cup " + "crack " * 90
    assert shorten(endless) == endless
    assert objection(endless)


@pytest.mark.parametrize(
    "said",
    [
        GOOD,
        f'"{GOOD}"',
        f"1. {GOOD}",
        f"- {GOOD}",
        f"(3) {GOOD}",
        f"  {GOOD}\n",
        GOOD.replace(" ", "\n"),
        f"* “{GOOD}”",
    ],
)
def test_tidy(said):
    assert tidy(said) == GOOD


@given(st.text())
def test_what_is_tidy_can_be_kept(said):
    tidied = tidy(f"A cup {said}")
    assert tidied.isprintable()
    assert "\n" not in tidied
    assert isinstance(objection(tidied), str | None)
    assert count_tokens(shorten(tidied)) <= max(75, count_tokens(tidied))
