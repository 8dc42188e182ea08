import json
import logging
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from functools import partial

import pytest
from PIL import Image

import anomalib_zsad
from anomalib_zsad.cli import main
from anomalib_zsad.knowledge.asking import Settings
from anomalib_zsad.knowledge.base import load_knowledge
from anomalib_zsad.knowledge.build import build_knowledge
from anomalib_zsad.knowledge.images import find_images
from anomalib_zsad.knowledge.inspection import problems_of
from anomalib_zsad.knowledge.ollama_model import (
    BrokenConnectionError,
    ModelMissingError,
    OllamaModel,
    SlowAnswerError,
    UnreachableError,
)
from tests.knowledge.ollama_server import DIGEST, answer_well, cut, fail, hang, say

QUICK = Settings(pause=0.0)
TOLD = [f"A cup with a {kind} crack on its {place} side." for kind, place in zip("abcde", "vwxyz", strict=True)]


@pytest.fixture
def folder(tmp_path):
    for name in ("cup", "metal_nut"):
        for number, kind in enumerate(("good", "crack", "crack", "bent")):
            path = tmp_path / "things" / name / "test" / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (1500, 30), number).save(path)
    return tmp_path / "things"


def build(out, classes=("cup", "metal_nut"), images=None, settings=QUICK, **model):
    llm, vqa = OllamaModel("llama3.1", **model), OllamaModel("llava-llama3", **model)
    return build_knowledge(classes, out, llm, vqa, images, "things", settings)


def answer(*texts, **more):
    return say(json.dumps({"descriptions": texts, **more}))


def test_a_base_of_classes(server, tmp_path):
    built = build(tmp_path / "kb.json")
    assert load_knowledge(tmp_path / "kb.json").content == built
    assert list(built.classes) == ["cup", "metal_nut"]
    assert built.classes["metal_nut"].display_name == "metal nut"
    assert built.classes["cup"].background == "A clean thing on a table."
    assert all(len(entry.llm) == 5 and not entry.vqa for entry in built.classes.values())
    assert not list(problems_of(built))
    assert (built.n, built.m, built.vqa.backend) == (5, 0, "file")
    assert not list(tmp_path.glob(".*"))


def test_classes_of_one_name_are_asked_about_once_and_the_log_says_so(server, tmp_path, caplog):
    built = build(tmp_path / "kb.json", ["pcb1", "pcb2", "bracket_black", "bracket_brown"])
    texts = [[text.text for text in entry.llm] for entry in built.classes.values()]
    assert texts[0] == texts[1]
    assert texts[2] != texts[3]
    asked = [chat["messages"][1]["content"] for chat in server.chats]
    assert ["image of black metal bracket looks" in each for each in asked] == [False, True, False]
    told = [record.getMessage() for record in caplog.records if record.name.startswith("anomalib_zsad")]
    assert [message.split(":")[0] for message in told] == ["pcb1, pcb2 share their descriptions"]


def test_where_it_comes_from_is_recorded(server, tmp_path):
    built = build(tmp_path / "kb.json", settings=Settings(seed=7))
    assert (built.llm.backend, built.llm.model, built.llm.digest) == ("ollama", "llama3.1", DIGEST)
    assert "Q: Describe what an abnormal image of {class} looks like?" in built.llm.prompt
    assert built.llm.options["temperature"] == 0.0
    assert built.llm.options["seed"] == 7
    assert built.llm.created == built.created
    assert abs(datetime.fromisoformat(built.created) - datetime.now(timezone.utc)) < timedelta(minutes=1)
    assert {(text.attempt, text.seed) for text in built.classes["cup"].llm} == {(0, 7)}
    (asked, _) = server.chats
    assert asked["options"]["temperature"] == 0.0
    assert asked["options"]["seed"] == 7
    assert asked["messages"][1]["content"] == "Q: Describe what an abnormal image of cup looks like?"
    assert "exactly 5 different" in asked["messages"][0]["content"]


def test_a_base_of_images(server, tmp_path, folder):
    data = find_images(str(folder))
    built = build(tmp_path / "kb.json", images=data.images)
    seen = built.classes["cup"].vqa
    assert list(seen) == ["cup/test/bent/3.png", "cup/test/crack/1.png", "cup/test/crack/2.png"]
    assert all(image.status == "ok" and image.label == 1 and len(image.descriptions) == 1 for image in seen.values())
    assert (built.m, built.vqa.model) == (1, "llava-llama3")
    assert len(load_knowledge(tmp_path / "kb.json").texts("cup")) == 8
    shown = [chat for chat in server.chats if chat["messages"][-1].get("images")]
    assert len(shown) == 6
    assert {chat["model"] for chat in shown} == {"llava-llama3"}
    assert "(metal nut)" in shown[-1]["messages"][-1]["content"]


@pytest.mark.parametrize("data", ["VisA", "MVTec"])
def test_a_training_finds_the_texts_of_its_images(server, tmp_path, visa_root, mvtec_root, data):
    root, name = {"VisA": (visa_root, "candle"), "MVTec": (mvtec_root, "metal_nut")}[data]
    base = build(tmp_path / "kb.json", [name], find_images(data, root, [name]).images)
    described = [image.descriptions[0].text for image in base.classes[name].vqa.values()]
    auxiliary = getattr(anomalib_zsad, data)(root, [name], val_ratio=0.0, num_workers=0)
    auxiliary.setup("fit")
    samples = auxiliary.train_data.samples
    found = [
        load_knowledge(tmp_path / "kb.json").image_texts(category, path, auxiliary.name)
        for category, path in zip(samples["category"], samples["image_path"], strict=True)
    ]
    is_anomalous = samples["label_index"] == 1
    assert [bool(texts) for texts in found] == list(is_anomalous)
    assert sorted(text for texts in found for text in texts) == sorted(described)


def test_images_are_sent_as_small_rgb_png(server, tmp_path, folder):
    import base64
    import io

    build(tmp_path / "kb.json", ["cup"], find_images(str(folder), classes=["cup"]).images)
    raw = base64.b64decode(server.chats[-1]["messages"][-1]["images"][0], validate=True)
    picture = Image.open(io.BytesIO(raw))
    assert (picture.format, picture.mode, picture.width) == ("PNG", "RGB", 1024)


def test_bad_answers_are_asked_again_with_another_seed_and_then_in_any_json(server, tmp_path):
    server.behaviours = [say("no JSON"), fail(500), answer(*TOLD[:3], "Sorry, no more."), answer(*TOLD)]
    built = build(tmp_path / "kb.json", ["cup"])
    assert [text.text for text in built.classes["cup"].llm] == TOLD
    assert [(text.attempt, text.seed) for text in built.classes["cup"].llm] == [(2, 2)] * 3 + [(3, 3)] * 2
    assert [chat["options"]["seed"] for chat in server.chats] == [0, 1, 2, 3]
    assert [chat["options"]["temperature"] for chat in server.chats] == [0.0, 0.4, 0.4, 0.4]
    assert [chat["format"] == "json" for chat in server.chats] == [False, False, True, True]


def test_after_the_last_attempt_templates_fill_the_rest_and_are_marked(server, tmp_path, caplog):
    server.behaviours = [answer(TOLD[0]), *[say("no JSON")] * 3, *[fail(500)] * 4]
    with caplog.at_level(logging.WARNING):
        built = build(tmp_path / "kb.json")
    assert [text.by for text in built.classes["cup"].llm] == ["", *["template"] * 4]
    assert [text.by for text in built.classes["metal_nut"].llm] == ["template"] * 5
    assert all("metal nut" in text.text for text in built.classes["metal_nut"].llm)
    assert built.others["template"].backend == "file"
    assert "1 of 5 usable descriptions of cup: templates fill the rest." in caplog.messages
    assert not list(problems_of(built))


def test_why_no_answer_was_usable_is_told_once(server, tmp_path, caplog):
    server.behaviours = [*[say("the cup \x1b[31mis broken")] * 2, *[fail(500)] * 2]
    with caplog.at_level(logging.WARNING):
        build(tmp_path / "kb.json", settings=Settings(retries=1, pause=0.0))
    told = [message for message in caplog.messages if "templates fill the rest" not in message]
    assert len(told) == 3
    assert told[0] == "Attempt 1 about cup: expected JSON with the key descriptions, got 'the cup [31mis broken'"
    assert told[1].endswith("; asking again")
    assert told[2].endswith("(500); nothing more is asked about metal nut")


def test_texts_are_made_fit(server, tmp_path):
    long = TOLD[1][:-1] + ", and the rest of it is described with far too many more words" * 6 + "."
    server.behaviours = [answer(f"1. {TOLD[0]}", TOLD[0].upper(), long, *TOLD[2:])]
    texts = [text.text for text in build(tmp_path / "kb.json", ["cup"], settings=Settings(n=4)).classes["cup"].llm]
    assert [texts[0], *texts[2:]] == [TOLD[0], *TOLD[2:4]]
    assert long.startswith(texts[1][:-1])
    assert len(server.chats) == 1


def test_the_thinking_field_and_a_stream(server, tmp_path):
    server.behaviours = [say("", thinking=f"```json\n{json.dumps({'descriptions': TOLD})}\n```")]
    built = build(tmp_path / "kb.json", ["cup"], stream=True)
    assert [text.text for text in built.classes["cup"].llm] == TOLD


@pytest.mark.parametrize(
    ("behaviours", "status", "asked"),
    [
        ([say('{"anomaly_visible": false, "descriptions": []}')], "no_anomaly", 1),
        ([answer("I see nothing special in this picture here.", anomaly_visible="False")], "no_anomaly", 1),
        ([answer("A cup without any visible defects at all.")] * 4, "rejected", 4),
        ([say("no JSON")] * 4, "error", 4),
        ([fail(500)] * 4, "error", 4),
        ([answer("A cup, cracked.", TOLD[0])], "rejected", 4),
    ],
)
def test_what_becomes_of_an_image(server, tmp_path, folder, behaviours, status, asked):
    images = {"cup": find_images(str(folder)).images["cup"][:1]}
    server.behaviours = [answer(*TOLD), *behaviours, *[say("no JSON")] * 3]
    built = build(tmp_path / "kb.json", ["cup"], images)
    (image,) = built.classes["cup"].vqa.values()
    assert image.status == status
    assert not image.descriptions
    assert len(server.chats) == 1 + asked
    assert len(load_knowledge(tmp_path / "kb.json").texts("cup")) == 5


def test_an_image_with_the_defect_of_another_is_not_asked_about_again(server, tmp_path, folder):
    server.behaviours = [answer(*TOLD), *[answer("A cup with a crack from rim to foot.")] * 3]
    built = build(tmp_path / "kb.json", ["cup"], find_images(str(folder)).images)
    assert [image.status for image in built.classes["cup"].vqa.values()] == ["ok", "rejected", "rejected"]
    assert len(server.chats) == 4


def test_an_unreadable_image_does_not_stop_the_others(server, tmp_path, folder, caplog):
    (folder / "cup/test/bent/3.png").write_bytes(b"no image")
    built = build(tmp_path / "kb.json", ["cup"], find_images(str(folder)).images)
    assert [image.status for image in built.classes["cup"].vqa.values()] == ["error", "ok", "ok"]
    assert "3.png cannot be read" in caplog.text


def test_a_second_run_asks_nothing(server, tmp_path, folder):
    images = find_images(str(folder)).images
    server.behaviours = [say("no JSON")]
    first = build(tmp_path / "kb.json", images=images)
    asked = len(server.chats)
    written = (tmp_path / "kb.json").read_bytes()
    (tmp_path / "kb.json").unlink()
    time.sleep(1)  # the seconds in which answers came are in the file
    assert build(tmp_path / "kb.json", images=images) == first
    assert len(server.chats) == asked
    assert (tmp_path / "kb.json").read_bytes() == written


def test_another_image_question_or_model_is_asked_about(server, tmp_path, folder):
    build(tmp_path / "kb.json", ["cup"], find_images(str(folder)).images)
    server.chats.clear()
    Image.new("L", (40, 30), 99).save(folder / "cup/test/bent/3.png")
    build(tmp_path / "kb.json", ["cup"], find_images(str(folder)).images)
    assert len(server.chats) == 1
    build(tmp_path / "kb.json", ["cup"], find_images(str(folder)).images, Settings(n=4))
    assert len(server.chats) == 2
    server.models["llama3.2"] = ["completion"]
    build_knowledge(["cup"], tmp_path / "kb.json", OllamaModel("llama3.2"))
    assert len(server.chats) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_an_interruption_loses_one_answer_at_most(server, tmp_path, folder, monkeypatch, stream):
    images = find_images(str(folder)).images
    out = tmp_path / "kb.json"
    ask = OllamaModel.ask
    for answered in (0, 3, 2):
        left = [answered]

        def interrupt(self, *rest, left=left):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return ask(self, *rest)

        monkeypatch.setattr(OllamaModel, "ask", interrupt)
        with pytest.raises(KeyboardInterrupt):
            build(out, images=images, stream=stream)
        assert not out.exists()
    monkeypatch.setattr(OllamaModel, "ask", ask)
    build(out, images=images, stream=stream)
    asked = [json.dumps([chat["messages"], chat["options"]]) for chat in server.chats]
    assert len(asked) == 2 + 6
    assert len(set(asked)) == len(asked)


def test_a_connection_that_breaks_off_is_asked_again(server, tmp_path):
    server.behaviours = [cut, cut, answer(*TOLD)]
    built = build(tmp_path / "kb.json", ["cup"])
    assert [text.text for text in built.classes["cup"].llm] == TOLD
    assert len(server.chats) == 3


@pytest.mark.parametrize(("behaviour", "error"), [(cut, BrokenConnectionError), (hang, SlowAnswerError)])
def test_a_server_that_stays_away_stops_the_build_and_the_next_run_goes_on(server, tmp_path, behaviour, error):
    settings = Settings(retries=1, pause=0.0)
    server.behaviours = [answer(*TOLD), behaviour, behaviour]
    with pytest.raises(error):
        build(tmp_path / "kb.json", settings=settings, timeout=0.3)
    assert not (tmp_path / "kb.json").exists()
    asked = len(server.chats)
    assert asked == 3
    build(tmp_path / "kb.json", settings=settings)
    assert len(server.chats) == asked + 1


def test_models_are_checked_before_anything_is_asked(server, tmp_path, folder):
    images = find_images(str(folder)).images
    with pytest.raises(ValueError, match=r"llama3\.1 cannot see images"):
        build_knowledge(["cup"], tmp_path / "kb.json", OllamaModel("llama3.1"), OllamaModel("llama3.1"), images)
    with pytest.raises(ModelMissingError, match="ollama pull phi9"):
        build_knowledge(["cup"], tmp_path / "kb.json", OllamaModel("phi9"))
    with pytest.raises(UnreachableError):
        build_knowledge(["cup"], tmp_path / "kb.json", OllamaModel("phi9", host="127.0.0.1:1"))
    assert not server.chats
    assert not list(tmp_path.glob("kb*"))


def test_a_vision_model_is_not_needed_without_images(server, tmp_path):
    del server.models["llava-llama3"]
    build(tmp_path / "kb.json", ["cup"])


def test_what_a_model_says_is_only_text(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = [
        "A cracked cup with {__class__} %s $(touch pwned) and ../../etc on it.",
        "A cup; `touch pwned` [bold red]and[/] {0} on its rim, broken.",
        "A cup whose \x1b[31mrim\x07 is {class} cracked and chipped twice.",
    ]
    server.behaviours = [answer(*evil, background="A \x1b[2Jcup {n}.")]
    built = build(tmp_path / "kb.json", ["cup"], settings=Settings(n=3))
    kept = [text.text for text in built.classes["cup"].llm]
    assert kept == [*evil[:2], "A cup whose [31mrim is {class} cracked and chipped twice."]
    assert built.classes["cup"].background == "A [2Jcup {n}."
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kb.json", "kb.jsonl"]


def test_class_names_are_only_text(server, tmp_path):
    build(tmp_path / "kb.json", ["[bold]{0}[/x]", "%s{class}"])
    assert server.chats[0]["messages"][1]["content"].endswith("image of [bold]{0}[/x] looks like?")


@pytest.mark.parametrize(
    ("name", "classes", "reason"),
    [
        ("kb.yaml", ["cup"], "is a \\*.json file"),
        ("kb.json", [], "expected classes"),
        ("a.json", ["cup"], "no file|a.json"),
    ],
)
def test_what_cannot_be_written(server, tmp_path, name, classes, reason):
    (tmp_path / "a.json").write_text('{"mine": 1}')
    with pytest.raises(ValueError, match=reason):
        build(tmp_path / name, classes)
    assert (tmp_path / "a.json").read_text() == '{"mine": 1}'
    assert not server.chats


@pytest.mark.parametrize("name", ["", " ", "a\x1b[31mb", "x" * 61])
def test_class_names_that_are_none(server, tmp_path, name):
    with pytest.raises(ValueError, match="a class is named by 1 to 60 printable characters") as caught:
        build(tmp_path / "kb.json", ["cup", name])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["瓶子", "x" * 60, "Ärmel-01", "word " * 12])
def test_any_other_class_name_has_templates_at_least(server, tmp_path, name):
    server.behaviours = [say("?")] * 4
    built = build(tmp_path / "kb.json", [name, name])
    assert len(built.classes[name].llm) == 5
    assert not list(problems_of(built))


def test_a_base_of_other_classes_is_not_replaced(server, tmp_path):
    build(tmp_path / "kb.json", ["cup"])
    with pytest.raises(ValueError, match="also knows cup: write another file and merge both"):
        build(tmp_path / "kb.json", ["metal_nut"])


@pytest.mark.slow
def test_ctrl_c_in_a_process_loses_one_answer_at_most(server, tmp_path):
    words = ["knowledge", "build", "--classes", "cup", "fork", "spoon", "--out", str(tmp_path / "kb.json")]
    server.behaviours = [answer_well, answer_well, hang]
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; from anomalib_zsad.cli import main; sys.exit(main())", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts jobs in the background has them ignore Ctrl-C, and their children too.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while len(server.chats) < 3 and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            told = process.communicate(timeout=30)[1]
        finally:
            process.kill()
    assert process.returncode == 130
    assert "the same command goes on" in told
    assert not (tmp_path / "kb.json").exists()
    assert main(words) == 0
    assert [chat["messages"][1]["content"].split()[7] for chat in server.chats] == ["cup", "fork", "spoon", "spoon"]


@pytest.mark.parametrize(
    ("settings", "pauses"),
    [
        (Settings(), [1, 2, 4]),
        (Settings(retries=6, pause=5.0), [5, 10, 20, 30, 30, 30]),
        (Settings(retries=0), []),
    ],
)
@pytest.mark.parametrize("behaviour", [fail(500), cut])
def test_pauses_double_up_to_half_a_minute(server, tmp_path, monkeypatch, settings, pauses, behaviour):
    slept = []
    monkeypatch.setattr("anomalib_zsad.knowledge.asking.time.sleep", slept.append)
    server.behaviours = [behaviour] * len(pauses)
    build(tmp_path / "kb.json", ["cup"], settings=settings)
    assert slept == pauses
    assert len(server.chats) == len(pauses) + 1


def test_a_bad_answer_is_asked_again_without_a_pause(server, tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr("anomalib_zsad.knowledge.asking.time.sleep", slept.append)
    server.behaviours = [fail(500), say("no JSON"), fail(500)]
    build(tmp_path / "kb.json", ["cup"], settings=Settings())
    assert slept == [1, 2]


@pytest.mark.parametrize("field", ["n", "m", "retries", "temperature", "pause"])
def test_settings_out_of_range(field):
    with pytest.raises(ValueError, match=f"{field} must be"):
        Settings(**{field: -1})
