import sys
from pathlib import Path

import huggingface_hub.constants as hub_constants
import pytest
import torch
from safetensors.torch import save_file

from anomalib_zsad.cli import main
from anomalib_zsad.installation import examination
from anomalib_zsad.installation.devices import find_devices
from anomalib_zsad.installation.findings import Finding
from anomalib_zsad.installation.packages import Package
from tests.support.trees import visa_tree


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder and home, an empty cache, no network and no Ollama server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANOMALIB_ZSAD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def put_weights(home: Path) -> None:
    path = home / "ViT-L-14-336" / "openai.safetensors"
    path.parent.mkdir(parents=True)
    save_file({"a": torch.zeros(1)}, path)


def section(found: examination.Examination, title: str) -> dict[str, Finding]:
    (chosen,) = (each for each in found.sections if each.title.startswith(title))
    return {finding.name: finding for finding in chosen.findings}


def test_the_page_and_the_status_of_a_machine_that_can_predict(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_weights(alone / "home")
    visa_tree(alone / "datasets" / "visa", ["candle"])
    assert main(["doctor"]) == 0
    page = capsys.readouterr().out
    assert "\x1b" not in page
    lines = [" ".join(line.split()) for line in page.split("\n")]
    for line in (
        f"torch {torch.__version__.split('+')[0]}",
        "predict takes --model.weights released/visa or --ckpt_path, and --data, an image or a folder",
        "train takes labelled defects with masks: --data VisA",
        "VisA 1 of 12 categories at datasets/visa: --data VisA",
    ):
        assert line in lines
    assert any(line.startswith("- ollama Ollama cannot be reached at http://127.0.0.1:9") for line in lines)


def test_without_weights_predict_would_not_run_and_commands_name_what_they_need(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.split("\n")
    assert any(line.startswith("! ViT-L-14-336:openai") for line in lines)
    assert any(line.startswith("! predict") and "needs ViT-L-14-336:openai, see above; then" in line for line in lines)
    assert any(line.startswith("  demo") for line in lines)


def test_versions_that_do_not_fit_are_faults_with_the_command_that_mends_them(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_weights(alone / "home")
    asked = [Package("torch", ">=2.10", "2.1"), Package("rich", ">=13", None), Package("numpy", ">=1", "2.0")]
    packages = {None: asked, "export": [Package("onnx", ">=1.17", None), Package("openvino", ">=2025", "2024.1")]}
    monkeypatch.setattr(examination, "required", lambda extra=None, distribution="": packages.get(extra, []))
    monkeypatch.setattr(examination, "extras", lambda: ["export", "notebooks", "dev"])
    found = examination.examine()
    assert not found.can_predict
    versions = section(found, "Versions")
    assert versions["torch"] == Finding("torch", '2.1: expected >=2.10, pip install "torch>=2.10"', "fault")
    assert versions["rich"].text.startswith("missing: expected >=13")
    assert "numpy" not in versions
    export = section(found, "Extras")["export"]
    assert list(section(found, "Extras")) == ["export", "notebooks", "ollama"]
    assert export.state == "absent"
    assert export.text.startswith("onnx is missing, openvino 2024.1, which is not >=2025: pip install")
    assert "needs torch and rich, see above" in section(found, "Commands")["export"].text
    assert "onnx and openvino need onnx" in section(found, "Commands")["export"].text


def test_an_installation_that_cannot_be_imported_has_a_page_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anomalib_zsad.models", None)
    found = examination.examine()
    assert not found.can_predict
    assert section(found, "Versions")["import"].state == "fault"


def test_known_conflicts(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_anomalib(extra: str, distribution: str) -> list[Package]:
        return [Package("open-clip-torch", "<2.26.1,>=2.23.0", "3.3.0")]

    monkeypatch.setattr(examination, "required", of_anomalib)
    monkeypatch.setattr(examination, "installed", lambda name: "3.0.1")
    clip, pandas = examination._conflicts()
    assert "WinCLIP" in clip.text
    assert "MVTecLOCO" in pandas.text
    monkeypatch.setattr(examination, "required", lambda extra, distribution: [Package("open-clip-torch", "<3", "2.24")])
    monkeypatch.setattr(examination, "installed", lambda name: "2.2.3")
    assert examination._conflicts() == []


def test_devices_are_those_of_torch() -> None:
    names = [each.name for each in find_devices()]
    assert names[0] == "cpu"
    assert ("gpu" in names) != torch.accelerator.is_available()
