import hashlib
import json
import logging
import re
from pathlib import Path

import pytest
from anomalib.data.datasets.image import bmad, btech, mpdd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomalib_zsad.knowledge import KnowledgeBase, load_knowledge
from anomalib_zsad.knowledge import base as base_module
from anomalib_zsad.knowledge.base import save_knowledge
from anomalib_zsad.knowledge.schema import Knowledge
from tests.support.trees import MVTEC_CATEGORIES, VISA_CATEGORIES

DTD = (
    "Blotchy_099", "Fibrous_183", "Marbled_078", "Matted_069", "Mesh_114", "Perforated_037", "Stratified_154",
    "Woven_001", "Woven_068", "Woven_104", "Woven_125", "Woven_127",
)  # fmt: skip
CATEGORIES = {
    "MVTec": MVTEC_CATEGORIES,
    "VisA": VISA_CATEGORIES,
    "BTech": btech.CATEGORIES,
    "MPDD": mpdd.CATEGORIES,
    "BMAD": bmad.CATEGORIES,
    "MagneticTile": ("magnetic_tile",),
    "DAGM": tuple(f"Class{number}" for number in range(1, 11)),
    "DTD-Synthetic": DTD,
    "Kolektor": ("",),
    "KSDD2": ("metal",),
    "RSDD": ("rail", "Dent"),
    "BrainMRI": ("brain_mri",),
    "Br35H": ("brain",),
    "HeadCT": ("brain",),
    "COVID-19": ("chest",),
    "ISIC": ("skin",),
    "CVC-ColonDB": ("colon",),
    "CVC-ClinicDB": ("ClinicDB",),
    "CVC-300": ("colon",),
    "Kvasir": ("colon",),
    "Endo": ("endo",),
}


def generator(**more):
    return {"backend": "file", "model": "", "prompt_sha256": "", "options": {}, **more}


def a_text(text="A cup with a long dark crack below its handle.", tokens=11, **more):
    return {"text": text, "clip_tokens": tokens, **more}


def a_base(**more):
    seen = {"image_sha256": "a" * 64, "label": 1}
    vqa = {
        "cup/test/crack/000.png": {
            **seen,
            "status": "ok",
            "descriptions": [a_text("A cup with a chip on its rim.", 9)],
        },
        "cup/test/crack/001.png": {**seen, "status": "no_anomaly", "descriptions": []},
        "000.png": {**seen, "status": "ok", "descriptions": [a_text("A cup that lies broken on the floor.", 9)]},
    }
    entry = {"display_name": "cup", "llm": [a_text()], "vqa": vqa}
    fields = {"schema_version": 1, "dataset": "cups", "llm": generator(), "vqa": generator(), "n": 1, "m": 1}
    return {**fields, "classes": {"cup": entry}, **more}


def written(path: Path, content) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("dataset", CATEGORIES)
def test_every_category_has_its_own_entry(dataset):
    shipped = load_knowledge()
    entries = [shipped.find(category, dataset) for category in CATEGORIES[dataset]]
    assert None not in entries
    assert "object" not in entries
    shared = {"BMAD": 1, "RSDD": 1}  # two categories of retinas; of rails
    assert len(set(entries)) == len(entries) - shared.get(dataset, 0)


def test_every_shipped_class_has_five_sentences_that_name_it():
    for entry in load_knowledge().content.classes.values():
        texts = [text.text for text in entry.llm]
        assert len(set(texts)) == 5
        assert all(entry.display_name.casefold() in text.casefold() for text in texts)
        assert all(text[0].isupper() and text.endswith(".") and text.count(".") == 1 for text in texts)
        assert entry.background.endswith(".")


def test_no_two_shipped_classes_share_a_sentence():
    texts = [text.text for entry in load_knowledge().content.classes.values() for text in entry.llm]
    assert len(set(texts)) == len(texts)


def test_no_shipped_sentence_counts_bleeding():
    texts = [text.text for entry in load_knowledge().content.classes.values() for text in entry.llm]
    assert not [text for text in texts if re.search(r"\ba (\w+ )?bleeding\b", text)]


def test_names_that_are_numbers_need_their_dataset():
    shipped = load_knowledge("builtin")
    assert shipped.find("01") is None
    assert shipped.find("Class1", "VisA") is None
    assert shipped.find("Class1", "dagm") == "dagm_class1"
    assert shipped.find("01", "BTech/01") == "btad_01"


def test_names_are_found_however_they_are_written():
    shipped = load_knowledge()
    assert {shipped.find(name) for name in ("metal_nut", "Metal Nut", "metal-nut", "metal_nut2")} == {"metal_nut"}
    assert shipped.find("nut") is None


@given(st.text(), st.text())
def test_any_name_finds_an_entry_or_none(name, dataset):
    shipped = load_knowledge()
    assert shipped.find(name, dataset) in {None, *shipped.classes}
    assert shipped.image_texts(name, f"{dataset}/0.png", dataset) == []


def test_a_base_knows_its_own_numbers(tmp_path):
    content = a_base()
    content["classes"]["01"] = content["classes"].pop("cup")
    assert load_knowledge(written(tmp_path / "kb.json", content)).find("01", "mine") == "01"


def test_the_texts_of_a_class_and_of_its_images(tmp_path):
    base = load_knowledge(written(tmp_path / "kb.json", a_base()))
    assert base.classes == ["cup"]
    assert base.texts("Cup") == [
        "A cup with a long dark crack below its handle.",
        "A cup with a chip on its rim.",
        "A cup that lies broken on the floor.",
    ]
    assert base.sha256 == hashlib.sha256((tmp_path / "kb.json").read_bytes()).hexdigest()


def test_the_texts_of_an_image(tmp_path):
    base = load_knowledge(written(tmp_path / "kb.json", a_base()))
    chip = ["A cup with a chip on its rim."]
    for path in ("cup/test/crack/000.png", "/data/cups/cup/test/crack/000.png", Path("x", "cup", "test/crack/000.png")):
        assert base.image_texts("cup", path) == chip
    assert base.image_texts("cup", "saucer/test/crack/000.png") == ["A cup that lies broken on the floor."]
    assert base.image_texts("cup", "cup/test/crack/001.png") == []
    assert base.image_texts("cup", "cup/test/crack/002.png") == []
    assert base.image_texts("saucer", "cup/test/crack/000.png") == []


def test_an_unknown_class_has_the_generic_texts_and_the_log_says_so_once(tmp_path, caplog):
    generic = load_knowledge().texts("object")
    base = load_knowledge(written(tmp_path / "kb.json", a_base()))
    with caplog.at_level(logging.WARNING):
        assert base.texts("saucer") == base.texts("saucer") == base.texts("object") == generic
        assert base.texts("02", "BTech") == generic
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "The knowledge base knows no class 'saucer'",
        "The knowledge base knows no class '02'",
    ]


def test_a_base_with_its_own_generic_entry(tmp_path):
    content = a_base()
    content["classes"]["object"] = {
        "display_name": "object",
        "llm": [a_text("Any thing with a crack in it.")],
        "vqa": {},
    }
    assert load_knowledge(written(tmp_path / "kb.json", content)).texts("fork") == ["Any thing with a crack in it."]


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"kb.json: expected a knowledge base or the word 'builtin'"):
        load_knowledge(tmp_path / "kb.json")


def test_a_folder(tmp_path):
    with pytest.raises(OSError, match="expected a knowledge base, but it cannot be read"):
        load_knowledge(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is not a knowledge base: expected JSON"),
        ("{", "is not a knowledge base: expected JSON"),
        ("[" * 5000, "is not a knowledge base: expected JSON"),
        ("[1]", "is not a knowledge base: expected an object with schema_version"),
        ({"bottle": "dark bottle"}, "is not a knowledge base: expected an object with schema_version"),
        (a_base(schema_version=2), "has schema version 2, expected 1"),
        (a_base(schema_version="\x1b[31m"), "has schema version"),
        (a_base(n=0), "is not a knowledge base: n: "),
        (a_base(classes={}), "is not a knowledge base: classes: "),
        (a_base(background="?"), "is not a knowledge base: background: "),
        (a_base(classes={"cup": {"display_name": "cup", "llm": [], "vqa": {}}}), r"classes.cup.llm: "),
        (
            a_base(classes={"cup": {"display_name": "cup", "llm": [a_text("A\x1b[31m cup here.")], "vqa": {}}}),
            "printable",
        ),
        (a_base(classes={"cup": {"display_name": "cup", "llm": [a_text(tokens=76)], "vqa": {}}}), "clip_tokens: .*75"),
    ],
)
def test_what_is_no_knowledge_base_is_told_in_one_line(tmp_path, content, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        load_knowledge(written(tmp_path / "kb.json", content))
    assert str(caught.value).startswith(str(tmp_path / "kb.json"))
    assert str(caught.value).isprintable()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_a_damaged_file_is_our_error_or_a_base(tmp_path, data):
    raw = json.dumps(a_base()).encode()
    start = data.draw(st.integers(0, len(raw)))
    damaged = raw[:start] + data.draw(st.binary(max_size=8)) + raw[start + data.draw(st.integers(0, 8)) :]
    (tmp_path / "kb.json").write_bytes(damaged)
    try:
        base = load_knowledge(tmp_path / "kb.json")
    except ValueError as error:
        assert str(error).isprintable()  # noqa: PT017
    else:
        assert base.texts("cup")


def test_a_base_is_the_same_after_writing_and_reading(tmp_path):
    content = Knowledge.model_validate(a_base(others={"hand": generator(note="by me")}))
    save_knowledge(content, tmp_path / "kb.json")
    assert load_knowledge(tmp_path / "kb.json").content == content


def test_the_shipped_file_is_as_it_would_be_written(tmp_path):
    save_knowledge(load_knowledge().content, tmp_path / "kb.json")
    assert (tmp_path / "kb.json").read_bytes() == Path(base_module.__file__).with_name("builtin.json").read_bytes()


def test_a_base_without_a_file():
    assert KnowledgeBase(Knowledge.model_validate(a_base())).find("cup") == "cup"
