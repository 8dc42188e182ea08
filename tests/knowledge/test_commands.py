import builtins
import json
import re
import subprocess
import sys

import pytest
from PIL import Image

from anomalib_zsad.cli import main
from anomalib_zsad.knowledge.base import load_knowledge
from tests.knowledge.ollama_server import fail, say
from tests.knowledge.test_base import a_base, a_text, generator, written


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def test_build_and_build_again(server, tmp_path, capsys):
    (tmp_path / "things" / "cup").mkdir(parents=True)
    for number in range(2):
        Image.new("L", (30, 20), number).save(tmp_path / "things" / "cup" / f"{number}.png")
    out = tmp_path / "kb.json"
    words = ["knowledge", "build", "--data", str(tmp_path / "things"), "--out", str(out), "--seed", "4", "--stream"]
    assert main(words) == 0
    assert capsys.readouterr().out == f"{out}: 1 classes, 0 templates, 2 of 2 images described\n"
    assert load_knowledge(out).content.dataset == "things"
    assert {chat["options"]["seed"] for chat in server.chats} == {4}
    assert all(chat["stream"] for chat in server.chats)
    assert main(words) == 0
    assert len(server.chats) == 3


def test_build_of_named_classes_and_models(server, tmp_path, capsys):
    server.models["phi9"] = ["completion"]
    server.behaviours = [fail(400), fail(400)]
    words = ["knowledge", "build", "--classes", "01", "cup", "--dataset", "BTech", "--llm", "phi9", "-n", "3"]
    assert main([*words, "--retries", "0", "--out", str(tmp_path / "kb.json"), "--host", server.url]) == 0
    assert "2 classes, 6 templates, 0 of 0 images described" in capsys.readouterr().out
    assert {chat["model"] for chat in server.chats} == {"phi9"}
    assert "image of metal part looks" in server.chats[0]["messages"][1]["content"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--classes", "cup", "--host", "127.0.0.1:1"], "Ollama cannot be reached at 127.0.0.1:1"),
        (["--classes", "cup", "--llm", "phi9"], "fetch it with `ollama pull phi9`"),
        (["--classes", "cup", "-n", "0"], "n must be 1 or more, got 0"),
        (["--data", "./nowhere"], "no folder and no datamodule ./nowhere"),
        ([], "expected classes to ask about, got none"),
    ],
)
def test_errors_are_one_line(server, tmp_path, capsys, words, reason):
    assert main(["knowledge", "build", *words, "--out", str(tmp_path / "kb.json")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("anomalib-zsad: ")
    assert reason in told
    assert told.count("\n") == 1


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "moment",
    [
        "anomalib_zsad.knowledge.images.find_images",
        "anomalib_zsad.knowledge.ollama_model.OllamaModel.__init__",
        "anomalib_zsad.knowledge.ollama_model.OllamaModel.check",
        "anomalib_zsad.knowledge.ollama_model.OllamaModel.ask",
        "anomalib_zsad.knowledge.build.save_knowledge",
    ],
)
def test_ctrl_c_says_how_to_go_on(server, tmp_path, capsys, monkeypatch, moment):
    (tmp_path / "things" / "cup").mkdir(parents=True)
    Image.new("L", (30, 20)).save(tmp_path / "things" / "cup" / "0.png")
    with monkeypatch.context() as patch:
        patch.setattr(moment, interrupt)
        status = main(["knowledge", "build", "--data", str(tmp_path / "things"), "--out", str(tmp_path / "kb.json")])
    assert status == 130
    assert capsys.readouterr().err.endswith("interrupted; the same command goes on where this one stopped\n")


def test_ctrl_c_while_modules_are_imported(tmp_path, capsys, monkeypatch):
    load = builtins.__import__
    stop = "anomalib_zsad.knowledge.build"
    monkeypatch.setattr(builtins, "__import__", lambda name, *rest: interrupt() if name == stop else load(name, *rest))
    assert main(["knowledge", "build", "--classes", "cup", "--out", str(tmp_path / "kb.json")]) == 130
    assert capsys.readouterr().err == "anomalib-zsad: interrupted; the same command goes on where this one stopped\n"


def test_show_lists_the_classes(capsys, wide):
    assert main(["knowledge", "show"]) == 0
    told = capsys.readouterr().out
    assert load_knowledge().sha256 in told
    for name, entry in load_knowledge().content.classes.items():
        assert re.search(rf"│ {name} +│ {re.escape(entry.display_name)} +│ 5 ", told)


def test_show_of_a_class(capsys, wide):
    assert main(["knowledge", "show", "--class", "Class10", "--dataset", "DAGM"]) == 0
    told = capsys.readouterr().out
    assert all(text in told for text in load_knowledge().texts("dagm_class10"))
    assert main(["knowledge", "show", "--class", "teapot"]) == 2
    assert "no class 'teapot', expected one of: object, bottle" in capsys.readouterr().err


def test_show_cuts_no_name_short(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    content = a_base()
    entry, (seen, *_) = content["classes"]["cup"], content["classes"]["cup"]["vqa"].values()
    keys = [f"coffee_cup_with_a_handle/test/crack_of_the_handle/{number:012}.png" for number in range(2)]
    content["classes"] = {
        "a_cup_" * 20: {
            **entry,
            "vqa": {**dict.fromkeys(keys, seen), "0.png": {**seen, "status": "error", "descriptions": []}},
        }
    }
    path = written(tmp_path / "kb.json", content)
    assert main(["knowledge", "show", str(path)]) == 0
    assert main(["knowledge", "show", str(path), "--class", "a_cup_" * 20]) == 0
    told = capsys.readouterr().out
    first = "".join(line.split("│")[1].strip() for line in told.splitlines() if line.startswith("│"))
    assert all(name in first for name in (*keys, "a_cup_" * 20))
    assert "…" not in told


def test_show_reads_no_markup(tmp_path, capsys, wide):
    content = a_base(dataset="[red]cups[/red]")
    content["classes"]["cup"]["llm"] = [a_text("A [bold]cup[/bold] with a [/] crack [link=x]in[/link] it.")]
    path = written(tmp_path / "kb.json", content)
    assert main(["knowledge", "show", str(path)]) == 0
    assert "[red]cups[/red]" in capsys.readouterr().out
    assert main(["knowledge", "show", str(path), "--class", "cup"]) == 0
    told = capsys.readouterr().out
    assert content["classes"]["cup"]["llm"][0]["text"] in told
    assert "cup/test/crack/001.png" in told
    assert "no_anomaly" in told


def test_show_steers_no_terminal(tmp_path, capsys, wide):
    options = {"seed\x1b[2J": 1, "stop": "\x1b]0;owned\x07", "nested": {"\x1b[1m": ["\x9b31m"]}, "temperature": 0.5}
    foreign = generator(backend="ollama", model="phi9", digest="d" * 64, prompt="\x1b[31m", options=options)
    content = a_base(llm=foreign, vqa=foreign, others={"phi9": foreign})
    assert main(["knowledge", "show", str(written(tmp_path / "kb.json", content))]) == 0
    told = capsys.readouterr().out
    assert told.count("temperature 0.5") == 3
    assert not [sign for sign in told if not sign.isprintable() and sign != "\n"]


def test_check_of_the_shipped_base(capsys):
    assert main(["knowledge", "check"]) == 0
    assert capsys.readouterr().out.startswith(
        f"builtin: {len(load_knowledge().classes)} classes, no problems, SHA-256 "
    )


def test_check_names_every_problem(tmp_path, capsys):
    content = a_base(n=5)
    good = "A cup with a long dark crack below its handle."
    content["classes"]["cup"]["llm"] = [
        a_text(good),
        a_text(good),
        a_text("A cup broken twice.", 5),
        a_text("A cup whose rim is chipped off.", 3, by="me"),
    ]
    content["classes"]["cup"]["vqa"]["x.png"] = {
        "image_sha256": "b" * 64,
        "label": 1,
        "status": "ok",
        "descriptions": [],
    }
    path = written(tmp_path / "kb.json", content)
    assert main(["knowledge", "check", str(path)]) == 1
    told = capsys.readouterr().out
    for problem in (
        "cup: 4 descriptions, expected 5",
        f"{good!r}: a duplicate",
        "'A cup broken twice.': 4 words, expected 5 to 60",
        "clip_tokens is 3, expected 8",
        "by 'me', expected one of the base's others",
        "x.png has status ok and 0 descriptions",
        "3 entries of the same image aaaaaaaaaaaa",
    ):
        assert problem in told
    assert "7 problems" in told


@pytest.mark.parametrize("action", [["show"], ["check"], ["merge", "builtin", "--out", "x.json"]])
def test_a_file_that_is_no_knowledge_base(tmp_path, capsys, action):
    path = written(tmp_path / "notes.json", {"bottle": "dark"})
    assert main(["knowledge", action[0], str(path), *action[1:]]) == 2
    assert "notes.json is not a knowledge base" in capsys.readouterr().err


def test_merge(tmp_path, capsys):
    written(tmp_path / "a.json", a_base())
    assert main(["knowledge", "merge", "builtin", str(tmp_path / "a.json"), "--out", str(tmp_path / "b.json")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'b.json'}: {len(load_knowledge().classes) + 1} classes\n"
    merged = load_knowledge(tmp_path / "b.json")
    assert len(merged.texts("cup")) == 3
    assert merged.image_texts("cup", "cup/test/crack/000.png") == ["A cup with a chip on its rim."]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("notes.md", "mine", r"a knowledge base is a \*\.json file, got .*notes\.md"),
        ("notes.md", None, r"a knowledge base is a \*\.json file, got .*notes\.md"),
        ("notes.json", "mine", r"notes\.json is not a knowledge base"),
        ("notes.json", {"mine": 1}, r"notes\.json is not a knowledge base"),
        ("kb.json", a_base(classes={"fork": a_base()["classes"]["cup"]}), r"kb\.json also knows fork: write another"),
    ],
)
def test_merge_replaces_no_other_file(tmp_path, capsys, name, content, reason):
    path, own = tmp_path / "kb" / name, str(written(tmp_path / "a.json", a_base()))
    path.parent.mkdir()
    kept = None if content is None else written(path, content).read_bytes()
    assert main(["knowledge", "merge", own, own, "--out", str(path)]) == 2
    told = capsys.readouterr().err
    assert re.search(reason, told)
    assert told.count("\n") == 1
    assert (path.read_bytes() if path.exists() else None) == kept


def test_merge_makes_folders_and_replaces_what_it_joined(tmp_path):
    out, own = tmp_path / "new" / "deep" / "kb.json", str(written(tmp_path / "a.json", a_base()))
    for files in ([own, own], [str(out), "builtin"], [str(out), own]):
        assert main(["knowledge", "merge", *files, "--out", str(out)]) == 0
    assert len(load_knowledge(out).classes) == len(load_knowledge().classes) + 1


def test_a_base_of_a_model_that_says_nothing_usable_is_marked_in_show(server, tmp_path, capsys, wide):
    server.behaviours = [say("?")] * 4
    assert main(["knowledge", "build", "--classes", "cup", "--out", str(tmp_path / "kb.json")]) == 0
    main(["knowledge", "show", str(tmp_path / "kb.json"), "--class", "cup"])
    assert capsys.readouterr().out.count("│ template") == 5


def test_commands_that_need_no_model_load_no_torch():
    script = (
        "import sys\n"
        "from anomalib_zsad.cli import main\n"
        "main(['knowledge', 'show', '--class', 'bottle'])\n"
        "loaded = [name for name in ('torch', 'anomalib', 'ollama', 'open_clip') if name in sys.modules]\n"
        "print(loaded)\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "glass" in told
    assert told.endswith("[]\n")


def test_the_file_is_readable_json(server, tmp_path):
    main(["knowledge", "build", "--classes", "cup", "--out", str(tmp_path / "kb.json")])
    content = json.loads((tmp_path / "kb.json").read_text())
    assert content["schema_version"] == 1
    assert len((tmp_path / "kb.json").read_text().splitlines()) > 40
