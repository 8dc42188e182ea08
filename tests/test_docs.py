"""What README, CONTRIBUTING, the pages of `docs/` and the notebooks name exists: files, anchors, names, options."""

import ast
import contextlib
import io
import json
import re
import shlex
from functools import cache
from importlib import import_module
from inspect import signature
from itertools import pairwise
from pathlib import Path

import pytest

import anomalib_zsad
from anomalib_zsad.cli import main

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "benchmarks/README.md",
        "docs/**/*.md",
        "notebooks/*.ipynb",
    )
    for path in ROOT.glob(pattern)
)
FOLDERS = "anomalib_zsad|benchmarks|configs|docs|notebooks|scripts|tests"
OF_ANOMALIB = frozenset(
    f"--{name}"
    for name in (
        "ckpt_path",
        "compression_type",
        "config",
        "data",
        "default_root_dir",
        "export_type",
        "input_size",
        "lr_scheduler",
        "model",
        "optimizer",
        "return_predictions",
        "seed_everything",
    )
)
OF_JSONARGPARSE = {"--help", "--print_config", "--print_shtab"}


def text_of(page: str) -> str:
    """Read a page; of a notebook the Markdown cells."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if not page.endswith(".ipynb"):
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def blocks(page: str, language: str = "") -> list[str]:
    """Find the code blocks of a language; commands have none."""
    return re.findall(rf"^```{language}\n(.*?)\n```$", text_of(page), flags=re.M | re.S)


def prose(page: str) -> str:
    """Leave out the code blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.M | re.S)


def anchors_of(path: Path) -> set[str]:
    """Name the headings as GitHub and MyST do."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: str) -> list[list[str]]:
    """Find the commands `anomalib` and `anomalib-zsad` of the code blocks, as words."""
    lines = "\n".join(blocks(page)).replace("\\\n", " ").splitlines()
    found = [line for line in lines if re.match(r"anomalib(-zsad)? ", line)]
    return [shlex.split(re.sub(r"<[^<>]*>", "PLACEHOLDER", line), comments=True) for line in found]


@cache
def help_of(*words: str) -> str:
    """Read what `anomalib-zsad WORDS --help` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code in (0, None), words
    return printed.getvalue()


@cache
def subcommands() -> list[tuple[str, ...]]:
    """Find all commands of `anomalib-zsad` in its reference."""
    return [tuple(heading.split()) for heading in re.findall(r"^## anomalib-zsad (.+)$", text_of("docs/cli.md"), re.M)]


def resolve(name: str) -> object:
    """Find a module, or an attribute of one.

    Raises:
        ImportError: If there is none.
    """
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ImportError(name)


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES)
def test_links_and_anchors_resolve(page: str) -> None:
    for target in re.findall(r"\]\(([^()\s]+)\)", prose(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert path.exists(), target
        if page.startswith("docs/"):  # the site holds no other file
            assert path.is_relative_to(ROOT / "docs"), target
        assert not anchor or anchor in anchors_of(path), target


@pytest.mark.parametrize("page", PAGES)
def test_files_exist(page: str) -> None:
    for name in re.findall(rf"(?<![\w/.<-])(?:{FOLDERS})/[\w./*-]*[\w*/]", text_of(page)):
        assert list(ROOT.glob(name.rstrip("/"))), name
    for name in re.findall(r"^```\{(?:include|literalinclude)\} (\S+)$", text_of(page), re.M):
        assert ((ROOT / page).parent / name).exists(), name


@pytest.mark.parametrize("page", PAGES)
def test_names_of_this_package_exist(page: str) -> None:
    for name in set(re.findall(r"(?<![\w/])anomalib_zsad(?:\.\w+)+", text_of(page))):
        resolve(name)


@pytest.mark.parametrize("page", PAGES)
def test_python_compiles_and_imports_what_exists(page: str) -> None:
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        for statement in ast.walk(tree):
            if isinstance(statement, ast.ImportFrom):
                module = import_module(statement.module or "")
                assert all(hasattr(module, alias.name) for alias in statement.names), ast.unparse(statement)


@pytest.mark.parametrize("page", [page for page in PAGES if "<!-- runs -->" in text_of(page)])
def test_python_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    for block in re.findall(r"<!-- runs -->\n```python\n(.*?)\n```", text_of(page), flags=re.S):
        exec(compile(block, page, "exec"), {})
        assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", PAGES)
def test_our_commands_and_their_options_exist(page: str) -> None:
    for words in commands(page):
        if words[0] == "anomalib-zsad":
            ours = words[1 : words.index("--")] if "--" in words else words[1:]
            check_options(ours)
    for line in re.findall(r"`anomalib-zsad ([^`]*)`", prose(page)):
        check_options(line.split(" -- ")[0].split())


def check_options(words: list[str]) -> None:
    """Look for the options of a command of ours in its help."""
    matching = [command for command in subcommands() if tuple(words[: len(command)]) == command]
    group = [command for command in subcommands() if command[:1] == tuple(words[:1])]
    assert matching or group or words[0].startswith("-"), words
    text = help_of(*max(matching, key=len)) if matching else help_of()
    for option in (word.split("=")[0] for word in words if word.startswith("-")):
        assert option in OF_JSONARGPARSE or re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), (words, option)


def test_every_benchmark_is_in_the_table() -> None:
    listed = set(re.findall(r"`python benchmarks/(\w+)\.py", text_of("benchmarks/README.md")))
    assert {path.stem for path in ROOT.glob("benchmarks/*.py")} - {
        "measuring",
        "gpu_bench",
        "gpu_cells",
        "gpu_onnx",
    } <= listed


def test_the_reference_has_every_command() -> None:
    listed = set(re.findall(r"^ {2,8}([a-z]+(?:-[a-z]+)*)(?: {2,}|$)", help_of(), flags=re.M))
    assert listed >= {"benchmark", "few-shot", "weights"}
    assert listed == {command[0] for command in subcommands()}


@pytest.mark.parametrize("page", PAGES)
def test_options_in_prose_exist(page: str) -> None:
    every_help = "".join(help_of(*command) for command in subcommands())
    methods = import_module("anomalib_zsad.models").__all__
    models = [resolve(f"anomalib_zsad.{name}") for name in methods]
    names = {"model": parameters(models), "data": parameters(public_datamodules())}
    text = re.sub(r"`(?:\.venv/bin/)?(?:python|ruff|pytest) [^`]*`", "", prose(page))
    for option in set(re.findall(r"(?<![\w-])--[a-zA-Z_][\w.-]*\w", text)):
        group, _, rest = option.removeprefix("--").partition(".")
        if group in names and rest:
            assert rest.split(".")[0] in names[group], option
        elif group != "trainer":
            assert option in OF_ANOMALIB | OF_JSONARGPARSE or re.search(rf"{option}(?![\w-])", every_help), option


def public_datamodules() -> list[object]:
    """Name the datamodules of this package."""
    from anomalib.data import AnomalibDataModule

    public = [getattr(anomalib_zsad, name) for name in anomalib_zsad.__all__]
    datamodules = [value for value in public if isinstance(value, type) and issubclass(value, AnomalibDataModule)]
    return [*datamodules, anomalib_zsad.ImageFiles]


def parameters(classes: list[object]) -> set[str]:
    """Name the arguments of classes, of their base classes and of the components that take the rest."""
    found = {"pre_processor", "evaluator", "visualizer", "category"}
    for cls in classes:
        for base in cls.__mro__:  # type: ignore[attr-defined]
            if "__init__" in vars(base):
                found |= set(signature(base.__init__).parameters)
    return found


def paths_alike(words: list[str]) -> list[str]:
    """Name all files alike, so that commands that differ in them only are parsed once."""
    files = {"--ckpt_path", "--model.weights", *(["--data"] if words[1] == "predict" else [])}
    return [words[0], *("PLACEHOLDER" if before in files else word for before, word in pairwise(words))]


@pytest.mark.slow
def test_commands_of_anomalib_are_parsed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All but the configurations alone, which `test_configs.py` reads."""
    from anomalib.cli.cli import AnomalibCLI

    monkeypatch.setattr(AnomalibCLI, "instantiate_classes", lambda self: None)
    (tmp_path / "PLACEHOLDER").touch()
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    found = {tuple(paths_alike(words)) for page in PAGES for words in commands(page) if words[0] == "anomalib"}
    found -= {("anomalib", "train", "-c", f"configs/{path.name}") for path in (ROOT / "configs").glob("*.yaml")}
    assert len(found) > 10
    parser = AnomalibCLI(args=["train", "--model", "anomalib_zsad.AFClip", "--data", "VisA"], run=False).parser
    for words in sorted(found):
        refused = io.StringIO()
        try:
            with contextlib.redirect_stderr(refused):
                parser.parse_args(words[1:])
        except SystemExit:
            pytest.fail(f"{shlex.join(words)}: {refused.getvalue()}")


def test_every_public_name_is_documented() -> None:
    pages = "".join(text_of(page) for page in PAGES if page.startswith("docs/"))
    names = set(anomalib_zsad.__all__) - {"__version__"}
    assert [name for name in names if not re.search(rf"\b{name}\b", pages)] == []
