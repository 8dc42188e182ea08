import hashlib
import re
import shlex
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import wraps
from pathlib import Path

import huggingface_hub.constants as hub_constants
import pytest
import torch
import yaml

from anomalib_zsad.cli import main, parse
from anomalib_zsad.commands.typed import COMMANDS, TOPICS
from anomalib_zsad.models.parts.adapter_file import load_adapter

ROOT = Path(__file__).parents[1]
SHOWN = ("README.md", "Makefile", "Dockerfile", "docs/**/*.md", "configs/**/*.yaml", "notebooks/*.ipynb")
"""Files that show users command lines."""


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """An empty home, an empty cache, no network."""
    monkeypatch.setenv("ANOMALIB_ZSAD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def released(tmp_path):
    keys = {f"attention.attn.to_{name}.weight": (64, 16) for name in "qkv"}
    keys |= {"attention.attn.to_out.0.weight": (16, 64), "attention.attn.to_out.0.bias": (16,)}
    keys |= {"attention.norm.weight": (16,), "attention.norm.bias": (16,)}
    torch.save(torch.randn(1, 12, 8), tmp_path / "p.pt")
    torch.save({key: torch.randn(shape) for key, shape in keys.items()}, tmp_path / "a.pt")
    return ["--prompt", str(tmp_path / "p.pt"), "--adaptor", str(tmp_path / "a.pt")]


def put(path, content=b"weights"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_convert_writes_an_adapter_file_and_says_so(released, tmp_path, capsys):
    out = tmp_path / "weights.safetensors"
    assert main(["convert", "af-clip", *released, "--out", str(out)]) == 0
    tensors, metadata = load_adapter(out)
    assert torch.equal(tensors["prompts.vectors"], torch.load(tmp_path / "p.pt"))
    assert metadata["method"] == "AFClip"
    assert metadata["prompt_sha256"] == hashlib.sha256((tmp_path / "p.pt").read_bytes()).hexdigest()
    told = capsys.readouterr().out
    assert f"{out}: 8 tensors, {sum(t.numel() for t in tensors.values())} parameters" in told
    assert hashlib.sha256(out.read_bytes()).hexdigest() in told


def test_an_error_is_one_line_and_exit_status_2(released, tmp_path, capsys):
    (tmp_path / "a.pt").write_bytes(b"PK nothing")
    out = tmp_path / "weights.safetensors"
    assert main(["convert", "af-clip", *released, "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("anomalib-zsad: ")
    assert "a.pt" in told
    assert told.count("\n") == 1
    assert not out.exists()


def test_what_libraries_say_of_their_imports_is_not_told(monkeypatch):
    where = COMMANDS["weights where"]

    @wraps(where.function)
    def importing(*_, **__):
        for module in ("timm.models", "anomalib.models", "anomalib_zsad.models"):
            warnings.warn_explicit(module, FutureWarning, "x.py", 1, module)
        return 0

    monkeypatch.setitem(COMMANDS, "weights where", replace(where, function=importing))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert main(["weights", "where", "ViT-B-32"]) == 0
    assert [str(each.message) for each in told] == ["anomalib_zsad.models"]


def test_where_names_the_file_and_its_source(tmp_path, capsys):
    path = put(tmp_path / "home" / "ViT-B-32" / "openai.safetensors")
    assert main(["weights", "where", "ViT-B-32"]) == 0
    assert capsys.readouterr().out == f"{path} (from the folder {tmp_path / 'home'})\n"
    assert main(["weights", "where", "ViT-B-32", str(put(tmp_path / "mine.pt"))]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'mine.pt'} (from the given file)\n"


def test_where_says_what_to_fetch(tmp_path, capsys):
    assert main(["weights", "where", "ViT-L-14-336"]) == 1
    told = capsys.readouterr().out
    assert "without a network fetch " in told
    assert str(tmp_path / "home" / "ViT-L-14-336" / "openai.") in told


def test_verify_checks_the_digest(tmp_path, capsys):
    path = put(tmp_path / "home" / "ViT-B-32" / "openai.safetensors")
    digest = hashlib.sha256(b"weights").hexdigest()
    path.with_name("openai.safetensors.sha256").write_text(f"{digest}  openai.safetensors\n")
    assert main(["weights", "verify", "ViT-B-32", "openai"]) == 0
    assert capsys.readouterr().out == f"{digest}  {path}\nmatches what was published or recorded\n"
    path.write_bytes(b"damaged")
    assert main(["weights", "verify", "ViT-B-32", "openai"]) == 2
    assert f"expected SHA-256 {digest}" in capsys.readouterr().err


def test_verify_without_the_file_says_what_to_fetch(capsys):
    assert main(["weights", "verify", "ViT-B-32"]) == 2
    assert "not on this machine; fetch " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "convert,doctor,few-shot"),
        (["convert"], "af-clip,acd-clip"),
        (["weights", "lift", "ViT-B-32"], "invalid choice: 'lift'"),
        (["weights", "where", "ViT-B-32", "openai", "more"], "Unrecognized arguments: more"),
        (["convert", "acd-clip", "--checkpoint", "a"], "'convert.acd-clip.out' is required"),
        (["benchmark", "-c", "x.yaml", "--jobs", "two"], "\"jobs\": Expected a <class 'int'>. Got value: two"),
        (["benchmark", "-c", "x.yaml", "--compare", "us"], "Expected a typing.Literal['acdclip', 'afclip'"),
        (["explain", "--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_wrong_words_end_with_exit_status_2(words, reason, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: ")
    assert reason in last


def shown_lines():
    """Every command line of `SHOWN` with all that follows on the same line, or on the next after a backslash."""
    for path in sorted(path for pattern in SHOWN for path in ROOT.glob(pattern)):
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        yield from re.findall(r"(?:^|[`'] ?|Command: +|BIN\)/)anomalib-zsad( [a-z][^`'#>\n]+)", text, re.MULTILINE)


def test_command_lines_that_users_are_shown_are_understood():
    lines = [line.strip() for line in shown_lines()]
    understood = [parse(shlex.split(line))[0] for line in lines if line not in {*COMMANDS, *TOPICS}]
    assert {"few-shot", "benchmark", "knowledge build", "explain"} <= set(understood)


@pytest.mark.parametrize(
    ("line", "command", "given"),
    [
        ("weights where ViT-L-14", "weights where", {"backbone": "ViT-L-14"}),
        ("knowledge show --class 01", "knowledge show", {"class_name": "01"}),
        ("explain a.png --ckpt a.ckpt --all", "explain", {"image": Path("a.png"), "all_classes": True}),
        ("benchmark --conf a.yaml --list", "benchmark", {"config": Path("a.yaml"), "list_cells": True}),
        ("benchmark -c a --cell x --end-with-parent", "benchmark", {"cell": "x", "end_with_parent": True}),
        ("few-shot --shots 0 2 -- --model a", "few-shot", {"shots": [0, 2], "arguments": ["--model", "a"]}),
        ("few-shot --out b -- a", "few-shot", {"shots": [0, 1, 2, 4], "arguments": ["a"], "out": Path("b")}),
        ("knowledge build --classes 01 no -n 2 --out a", "knowledge build", {"classes": ["01", "no"], "n": 2}),
    ],
)
def test_arguments_are_those_of_the_function(line, command, given):
    called, arguments = parse(line.split())
    assert called == command
    assert {name: arguments[name] for name in given} == given


def test_a_printed_configuration_is_read_back(tmp_path, capsys):
    line = ["knowledge", "build", "--classes", "01", "cup", "--out", "kb.json", "--stream", "-n", "3"]
    with pytest.raises(SystemExit) as caught:
        main([*line, "--print_config"])
    assert caught.value.code == 0
    config = tmp_path / "config.yaml"
    config.write_text(capsys.readouterr().out)
    assert yaml.safe_load(config.read_text())["host"] is None
    assert parse(["knowledge", "build", "--config", str(config)]) == parse(line)
    assert parse(["knowledge", "build", "--config", str(config), "-n", "4"])[1]["n"] == 4


def test_help_is_grouped_and_shows_no_types(capsys):
    for words, entry in COMMANDS.items():
        with pytest.raises(SystemExit):
            main([*words.split(), "--help"])
        told = capsys.readouterr().out
        assert told.startswith((f"usage: anomalib-zsad {words} ", f"usage: anomalib-zsad {words}\n"))
        assert "type:" not in told
        assert "null" not in told.replace("skip_null", "")
        for title in entry.groups:
            assert f"\n{title}:\n" in told
        assert "--end-with-parent" not in told


def test_shells_complete_commands_and_options(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--print_shtab", "bash"])
    assert caught.value.code == 0
    (tmp_path / "completion").write_text(capsys.readouterr().out)
    for typed, expected in (
        ("kn", "knowledge"),
        ("benchmark --comp", "--compare"),
        ("benchmark --compare k", "kanoclip"),
    ):
        words = ["anomalib-zsad", *typed.split()]
        script = f"source completion; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}"
        script += f"; _shtab_anomalib_zsad {words[0]} {words[-1]} {words[-2]}; echo ${{COMPREPLY[@]}}"
        told = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        assert told.split() == [expected]


def test_help_loads_no_torch():
    script = (
        "import sys\n"
        "from anomalib_zsad.cli import main\n"
        "try: main(['weights', '--help'])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules, 'anomalib' in sys.modules)\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told.endswith("0 False False\n")
    assert "where" in told
