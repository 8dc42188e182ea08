import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomalib_zsad.knowledge.answers import Answer, MalformedAnswerError, parse_answer

TEXTS = ["A cup with a crack.", "A cup without its handle."]
JSON = json.dumps({"descriptions": TEXTS, "background": "A white cup."})
EXPECTED = Answer(tuple(TEXTS), "A white cup.")

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["descriptions", "anomaly_visible", "background", "x"]), inner, max_size=4)
    ),
)


@pytest.mark.parametrize(
    "text",
    [
        JSON,
        f"```json\n{JSON}\n```",
        f"Here you are:\n```\n{JSON}\n```\nHave fun!",
        f"I think {{this}} is it: {JSON} - is it?",
        json.dumps({"response": json.loads(JSON)}),
        json.dumps({"reasoning": "a cup {", "answer": {"result": json.loads(JSON)}}),
        json.dumps(JSON),
        json.dumps({"output": f"```json\n{JSON}```"}),
        json.dumps({"Descriptions": [{"description": text} for text in TEXTS], "Background": "A white cup."}),
    ],
)
def test_the_answer_is_found_in_its_wrapping(text):
    assert parse_answer(text) == EXPECTED
    assert parse_answer("", text) == EXPECTED
    assert parse_answer("Let me think about that.", text) == EXPECTED


def test_a_bare_list_will_do():
    assert parse_answer(json.dumps(TEXTS)).descriptions == tuple(TEXTS)


@pytest.mark.parametrize("said", [False, "false", " False"])
def test_no_anomaly(said):
    answer = parse_answer(json.dumps({"anomaly_visible": said, "descriptions": []}))
    assert not answer.anomaly_visible
    assert answer.descriptions == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A cup with a crack.",
        "{",
        '{"descriptions": []}',
        '{"descriptions": [1, 2]}',
        "[" * 100_000,
        '{"a": 1}',
        "[]",
    ],
)
def test_what_holds_no_answer(text):
    with pytest.raises(MalformedAnswerError, match="expected JSON with the key descriptions, got"):
        parse_answer(text)
    with pytest.raises(MalformedAnswerError):
        parse_answer(None, text)


@given(st.text(), anything)
def test_any_text_is_an_answer_or_our_error(noise, value):
    for text in (noise, json.dumps(value), f"{noise}```{json.dumps(value)}```", f"{noise}{json.dumps(value)[:-1]}"):
        with contextlib.suppress(MalformedAnswerError):
            answer = parse_answer(text, noise)
            assert all(isinstance(each, str) for each in answer.descriptions)
            assert answer.descriptions or not answer.anomaly_visible
