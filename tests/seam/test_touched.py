"""The names that this package touches are there, and no others are touched; nor are these elsewhere."""

import ast
import inspect
import platform
import textwrap
from importlib import import_module
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import pytest

import anomalib_zsad
from anomalib_zsad.seam.touched import TOUCHED, Touched
from tests.seam.private_touches import Touch, touches_of

SEAM = Path(anomalib_zsad.__file__).parent / "seam"


def changed(touched: Touched) -> str | None:
    """Say what became of a name; None where it is as it was."""
    try:
        owner, found = resolve(touched.name)
    except (ImportError, AttributeError):
        return told(touched, "is gone")
    if touched.takes is not None and found is not None:
        missing = set(touched.takes.split()) - parameters_of(owner, found)
        if missing:
            return told(touched, f"does not take {', '.join(sorted(missing))} any more")
    return None


def version(library: str) -> str:
    return platform.python_version() if library == "Python" else version_of(library)


def told(touched: Touched, what: str) -> str:
    return (
        f"{touched.library} {version(touched.library)}: {touched.name} {what}; it is touched in "
        f"anomalib_zsad.seam.{touched.where}: {touched.why}"
    )


def resolve(name: str) -> tuple[Any, Any]:
    """Find what owns a dotted name, and what it names; None for what instances alone have."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            owner = found = import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            owner, found = found, attribute(found, part)
        return owner, found
    raise ImportError(name)


def attribute(owner: Any, name: str) -> Any:
    if hasattr(owner, name) or not inspect.isclass(owner):
        return getattr(owner, name)
    if not any(name in used_by(kind) for kind in owner.__mro__[:-1]):
        raise AttributeError(name)
    return None


def used_by(kind: type) -> set[str]:
    """Name the attributes of `self` that the source of a class uses, declares or registers."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError):
        return set()
    nodes = list(ast.walk(tree))
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"}
    names |= {node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    calls = [node for node in nodes if isinstance(node, ast.Call) and node.args]
    names |= {str(getattr(node.args[0], "value", "")) for node in calls if "register" in getattr(node.func, "attr", "")}
    return names | {
        str(getattr(node.args[0], "value", "")) for node in calls if "__setattr__" in ast.unparse(node.func)
    }


def parameters_of(owner: Any, found: Any) -> set[str]:
    plain = inspect.getattr_static(owner, found.__name__, found) if inspect.isclass(owner) else found
    return set(inspect.signature(getattr(plain, "__wrapped__", found)).parameters)


@pytest.mark.parametrize("touched", TOUCHED, ids=lambda touched: touched.name)
def test_what_is_touched_is_there(touched: Touched) -> None:
    assert changed(touched) is None


@pytest.mark.parametrize(
    ("name", "takes", "what"),
    [
        ("torch.nn.Module._organs", None, "is gone"),
        ("torch.anatomy.Organ", None, "is gone"),
        ("torch.nn.Module.register_buffer", "tensor organ", "does not take organ any more"),
    ],
)
def test_what_has_changed_is_named(name: str, takes: str | None, what: str) -> None:
    message = changed(Touched("torch", name, "tensors", "for this test", takes))
    assert message is not None
    assert message.startswith(f"torch {version('torch')}: {name} {what}; it is touched in anomalib_zsad.seam.tensors")


@pytest.fixture(scope="module")
def found() -> list[Touch]:
    return touches_of(Path(anomalib_zsad.__file__).parent)


def test_nothing_is_touched_elsewhere(found) -> None:
    assert [str(touch) for touch in found if "seam" not in touch.file.parts] == []


def test_all_that_is_touched_is_listed(found) -> None:
    listed = {where: [each.name.split(".")[-1] for each in TOUCHED if each.where == where] for where in homes()}
    ours = [touch for touch in found if "seam" in touch.file.parts]
    assert [str(touch) for touch in ours if not any(name in touch.what for name in listed[touch.file.stem])] == []


def test_the_list_names_modules_that_touch_it() -> None:
    sources = {path.stem: path.read_text("utf-8") for path in SEAM.glob("*.py")}
    assert [each.name for each in TOUCHED if each.name.split(".")[-1] not in sources[each.where]] == []


def homes() -> list[str]:
    return [path.stem for path in SEAM.glob("*.py")]


@pytest.mark.parametrize(
    "line",
    [
        "from torch.nn.modules.batchnorm import _BatchNorm",
        "import jsonargparse._typehints",
        "nn.Module()._modules",
        "getattr(nn.Module(), '_modules')",
        "nn.Module.forward = print",
        "setattr(nn, 'Linear', print)",
        "vars(nn.Module())['forward'] = print",
        "strategy.process = partial(print)",
        "class Own(nn.Module):\n    def _apply(self): ...",
        "class Own(nn.Module):\n    def read(self): return self._modules",
        "class Mixin:\n    def _apply(self): ...\nclass Own(Mixin, nn.Module): ...",
        "nn.Module().__class__ = object",
    ],
)
def test_a_touch_is_found(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / f"touching_{abs(hash(line))}"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "module.py").write_text(IMPORTS + (line if "class " in line else f"def never_run(strategy):\n    {line}"))
    monkeypatch.syspath_prepend(tmp_path)
    assert len(touches_of(folder)) == 1


IMPORTS = "from functools import partial\nfrom torch import nn\n"


def test_own_names_are_no_touch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "untouching").mkdir()
    (tmp_path / "untouching" / "__init__.py").write_text(
        IMPORTS
        + "class Own(nn.Module):\n    def read(self, other): return self._whole + other._whole\n    _whole = 1\n"
        + "class Pair(tuple):\n    def both(self, named): return named._asdict()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert touches_of(tmp_path / "untouching") == []
