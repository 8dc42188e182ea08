"""The examination of `anomalib-zsad doctor`: what is here, what is wrong, and what each command would need."""

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anomalib_zsad._version import __version__
from anomalib_zsad.installation.findings import Finding, Section, State
from anomalib_zsad.installation.packages import Package, extras, installed, required
from anomalib_zsad.knowledge.ollama_model import OllamaModel

if TYPE_CHECKING:
    from anomalib_zsad.installation.datasets import FoundSet

_SHOWN = ("anomalib", "torch", "torchvision", "lightning", "open_clip_torch")
_OF_DEVELOPERS = {"dev", "docs"}
"""Extras that no user needs."""
_USUAL = ("VisA", "MVTec")
"""What the papers train on."""
_ASKED = ("llama3.1", "llava-llama3")
"""The models that `knowledge build` asks by default."""
_SECONDS = 2
"""The time to wait for an Ollama server."""


@dataclass(frozen=True)
class Examination:
    """What was found.

    Args:
        sections: For the page.
        can_predict: Whether `anomalib predict` would run, given a checkpoint or an adapter.
    """

    sections: Sequence[Section]
    can_predict: bool


def examine() -> Examination:
    """Examine this installation. Nothing large is read, and the network is used for a few small requests at most."""
    system, versions = Section(f"anomalib-zsad {__version__} on {platform.platform()}", _python()), _versions()
    try:
        import anomalib_zsad.models  # noqa: F401  # as predict does
    except Exception as error:  # whatever a broken installation raises
        reason = " ".join(str(error).split()) or type(error).__name__
        broken = Finding("import", f"anomalib_zsad cannot be imported ({type(error).__name__}: {reason})", "fault")
        return Examination([system, Section("Versions", [*versions, broken])], can_predict=False)
    from anomalib_zsad.clip.weights import home
    from anomalib_zsad.installation.datasets import find_datasets
    from anomalib_zsad.installation.devices import find_devices
    from anomalib_zsad.installation.held_weights import DEFAULT, findings_of
    from anomalib_zsad.models.inventory import inventory

    weights, datasets, ollama = findings_of(inventory()), find_datasets(), _ollama()
    needed = [*versions, *(finding for finding in weights if finding.name == DEFAULT)]
    faults = [finding for finding in needed if finding.state == "fault"]
    sections = [
        system,
        Section("Versions", versions),
        Section("Devices", find_devices()),
        Section(f"Weights (below {home()}, or in the hub's cache)", weights),
        Section(f"Datasets (below {Path('datasets').resolve()})", _datasets(datasets)),
        Section("Extras", [*(_extra(name) for name in extras() if name not in _OF_DEVELOPERS), ollama]),
        Section("Commands", _commands(faults, weights, datasets, ollama)),
        Section("Known conflicts", _conflicts()),
    ]
    return Examination(sections, not faults)


def _python() -> list[Finding]:
    return [Finding("python", f"{platform.python_version()} at {sys.executable}")]


def _versions() -> list[Finding]:
    asked = required()
    if not asked:
        return [Finding("anomalib-zsad", "is not installed, only on Python's path: pip install .", "fault")]
    shown = [each for each in asked if each.name in _SHOWN or not each.fits]
    return [
        Finding(each.name, each.installed or "", "ok") if each.fits else Finding(each.name, _wrong(each), "fault")
        for each in shown
    ]


def _wrong(package: Package) -> str:
    found = "missing" if package.installed is None else package.installed
    return f'{found}: expected {package.wanted}, pip install "{package.name}{package.wanted}"'


def _datasets(datasets: "Sequence[FoundSet]") -> list[Finding]:
    here = [
        Finding(each.name, f"{each.categories} of {each.known} categories at {each.root}: {each.option}")
        for each in datasets
        if each.categories
    ]
    absent = ", ".join(each.name for each in datasets if not each.categories)
    return [*here, Finding("not found", absent, "absent")] if absent else here


def _extra(name: str) -> Finding:
    packages = required(name)
    wrong = [each for each in packages if not each.fits]
    if wrong:
        state: State = "absent" if any(each.installed is None for each in wrong) else "fault"
        return Finding(name, f'{", ".join(map(str, wrong))}: pip install "anomalib-zsad[{name}]"', state)
    return Finding(name, ", ".join(map(str, packages)))


def _ollama() -> Finding:
    try:
        server = OllamaModel(_ASKED[0], timeout=_SECONDS)
        for name in _ASKED:
            server.name = name
            server.check()
    except (OSError, ValueError) as error:
        return Finding("ollama", str(error), "absent")
    return Finding("ollama", f"answers, and has {' and '.join(_ASKED)}")


def _commands(
    faults: Sequence[Finding], weights: Sequence[Finding], datasets: "Sequence[FoundSet]", ollama: Finding
) -> list[Finding]:
    needed = f"needs {' and '.join(finding.name for finding in faults)}, see above; then " if faults else ""
    state: State = "fault" if faults else "ok"
    here = sorted((each for each in datasets if each.categories), key=lambda each: each.name not in _USUAL)
    data = here[0].option if here else "--data VisA, which is downloaded"
    published = [finding for finding in weights if finding.name.startswith("released/")]
    named = next((finding.name for finding in published if finding.state == "ok"), "released/visa")
    trained = f"--model.weights {named} or --ckpt_path"
    exporting, serving = ([each.name for each in required(name) if not each.fits] for name in ("export", "serve"))
    lacking = f"; onnx and openvino need {', '.join(exporting)}" if exporting else ""
    missing = f"{needed}needs {', '.join(serving)}; then " if serving else needed
    return [
        Finding("predict", f"{needed}takes {trained}, and --data, an image or a folder", state),
        Finding("train", f"{needed}takes labelled defects with masks: {data}", state),
        Finding("test", f"{needed}takes {trained}, and a dataset: {data}", state),
        Finding("calibrate", f"{needed}takes what predict takes, and normal images: 99 for --false_alarms 0.01", state),
        Finding("benchmark", f"{needed}takes the datasets of its --config", state),
        Finding("export", f"{needed}takes {trained}{lacking}", "absent" if exporting and not faults else state),
        Finding("watch", f"{needed}takes a model, trained or exported, and a folder", state),
        Finding("serve", f"{missing}takes a model, trained or exported", "absent" if serving and not faults else state),
        Finding("knowledge", "build needs an Ollama server; the knowledge that comes along needs none", ollama.state),
        Finding("demo", "needs nothing: pictures are drawn, and a small CLIP comes along"),
    ]


def _conflicts() -> list[Finding]:
    found = []
    of_anomalib = [each for each in required("full", "anomalib") if each.name.replace("-", "_") == "open_clip_torch"]
    if of_anomalib and not of_anomalib[0].fits:
        text = (
            f"{of_anomalib[0].installed} is not {of_anomalib[0].wanted}, which anomalib's own WinCLIP needs: "
            f"without it its scores are wrong and no error says so. The models of anomalib_zsad work with both"
        )
        found.append(Finding("open_clip_torch", text, "absent"))
    pandas = installed("pandas")
    if pandas is not None and int(pandas.split(".")[0]) >= 3:
        text = f"{pandas}: anomalib's Tabular and MVTecLOCO need pandas 2, unless anomalib_zsad is imported beside them"
        found.append(Finding("pandas", text, "absent"))
    return found
