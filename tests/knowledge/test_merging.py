import pytest

from anomalib_zsad.knowledge.base import KnowledgeBase, load_knowledge
from anomalib_zsad.knowledge.inspection import problems_of
from anomalib_zsad.knowledge.merging import merge_knowledge
from anomalib_zsad.knowledge.schema import Knowledge
from tests.knowledge.test_base import a_base, a_text, generator

CRACK = a_text("A cup with a long dark crack below its handle.", 11)
CHIP = a_text("A cup with a chip on its thin rim.", 10)
MODEL = generator(backend="ollama", model="llama3.1", digest="ab", prompt_sha256="c" * 64)


def one(*texts, name="cup", vqa=None, **more):
    entry = {"display_name": name, "llm": list(texts), "vqa": vqa or {}}
    return Knowledge.model_validate(a_base(classes={name: entry}, **more))


def origins(merged, name="cup"):
    by = [text.by for text in merged.classes[name].llm]
    return [merged.others[each] if each else merged.llm for each in by]


def test_all_classes_are_there():
    fork = a_text("A fork with a bent outer tine.", 8)
    merged = merge_knowledge([one(CRACK), one(fork, name="fork"), load_knowledge().content])
    assert len(merged.classes) == 2 + len(load_knowledge().classes)
    assert merged.classes["bottle"].display_name == "bottle"
    assert not list(problems_of(Knowledge.model_validate(merged.model_dump())))


def test_a_class_of_both_has_the_texts_of_both_once():
    merged = merge_knowledge([one(CRACK), one(a_text(CRACK["text"].upper()), CHIP)])
    assert [text.text for text in merged.classes["cup"].llm] == [CRACK["text"], CHIP["text"]]


def test_every_text_keeps_its_origin():
    first, second = one(CRACK), one(CHIP, llm=MODEL)
    assert [origin.model for origin in origins(merge_knowledge([first, second]))] == ["", "llama3.1"]
    assert [origin.model for origin in origins(merge_knowledge([second, first]))] == ["llama3.1", ""]
    assert merge_knowledge([first, one(CHIP)]).others == {}
    again = merge_knowledge(
        [one(a_text("A cup that lies in many pieces.", 8), llm=MODEL), merge_knowledge([first, second])]
    )
    assert [origin.model for origin in origins(again)] == ["llama3.1", "", "llama3.1"]


def test_origins_of_the_same_name_stay_apart():
    bases = [
        one({**text, "by": "template"}, others={"template": generator(note=note)})
        for text, note in ((CRACK, "old"), (CHIP, "new"))
    ]
    assert [origin.note for origin in origins(merge_knowledge(bases))] == ["old", "new"]


def test_of_an_image_that_both_describe_the_last_counts():
    def seen(text, key="cup/0.png"):
        return {key: {"image_sha256": "a" * 64, "label": 1, "status": "ok", "descriptions": [text]}}

    first = one(CRACK, vqa={**seen(CRACK), **seen(CHIP, "cup/1.png")})
    merged = merge_knowledge([first, one(CRACK, vqa=seen(CHIP))])
    assert {key: image.descriptions[0].text for key, image in merged.classes["cup"].vqa.items()} == {
        "cup/0.png": CHIP["text"],
        "cup/1.png": CHIP["text"],
    }


def test_an_image_that_one_base_describes_stays_described():
    def seen(status, *texts):
        return {"cup/0.png": {"image_sha256": "a" * 64, "label": 1, "status": status, "descriptions": list(texts)}}

    described, missed = one(CRACK, vqa=seen("ok", CHIP)), one(CRACK, vqa=seen("error"))
    for bases in ((described, missed), (missed, described)):
        (image,) = merge_knowledge(bases).classes["cup"].vqa.values()
        assert (image.status, [text.text for text in image.descriptions]) == ("ok", [CHIP["text"]])
    (image,) = merge_knowledge([missed, one(CRACK, vqa=seen("no_anomaly"))]).classes["cup"].vqa.values()
    assert image.status == "no_anomaly"


def test_spellings_of_a_name_are_one_class():
    merged = merge_knowledge([one(CRACK, name="metal_nut"), one(CHIP, name="Metal nut")])
    assert list(merged.classes) == ["metal_nut"]
    assert KnowledgeBase(merged).texts("metal-nut") == [CRACK["text"], CHIP["text"]]


def test_texts_that_a_build_would_refuse_are_kept():
    short = a_text("Rim badly chipped.", 4)
    merged = merge_knowledge([one(CRACK), one(short, short)])
    assert [text.text for text in merged.classes["cup"].llm] == [CRACK["text"], short["text"]]


def test_one_base_is_nothing_to_merge():
    with pytest.raises(ValueError, match="expected two knowledge bases or more to merge, got 1"):
        merge_knowledge([one(CRACK)])
