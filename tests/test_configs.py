"""Every configuration in `configs/` is read by anomalib's command line as `anomalib train -c` reads it."""

import re
import socket
from dataclasses import fields
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from jsonargparse.typing import import_object

from anomalib_zsad import models
from anomalib_zsad.benchmark.config_file import read_benchmark
from anomalib_zsad.benchmark.grid import Benchmark
from anomalib_zsad.benchmark.published import PAPERS, published_figures
from anomalib_zsad.models.parts import settings
from anomalib_zsad.synthetic import Synthetic
from anomalib_zsad.yaml_file import read_yaml

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").glob("*.yaml"))
BENCHMARKS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs/benchmark").glob("*.yaml"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        msg = "reading a configuration must not open a connection"
        raise AssertionError(msg)

    monkeypatch.setattr(socket.socket, "connect", refuse)


@cache
def benchmark_of(name: str) -> Benchmark:
    """Read and check it once for all tests."""
    return read_benchmark(ROOT / name)


def read(path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Parse without building anything."""
    from anomalib.cli.cli import AnomalibCLI

    monkeypatch.setattr(AnomalibCLI, "instantiate_classes", lambda self: None)
    return AnomalibCLI(args=["train", "-c", str(path)], run=False).config["train"]


def test_there_is_a_configuration() -> None:
    assert "configs/af_clip.yaml" in CONFIGS


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read(ROOT / name, monkeypatch)

    assert config.model.class_path.startswith("anomalib_zsad.")
    if "ensemble" not in name:  # a paper's: trained on all images, in its batches
        assert config.data.init_args.val_ratio == 0
        published = import_object(config.model.class_path).paper_batch_size
        assert published in {None, config.data.init_args.train_batch_size}


PAPERS_MODELS = [name for name in CONFIGS if "ensemble" not in name]
AT_VIT_L: dict[str, Any] = {
    "image_size": 518,
    "feature_layers": [6, 12, 18, 24],
    "choices.vv_start_layer": 6,
    "prompt_depth": 9,
    "lr": 1e-4,
}
"""What None stands for over the default backbone."""


@pytest.mark.parametrize("name", PAPERS_MODELS)
def test_the_models_of_the_papers_have_the_defaults_and_name_them_all(name: str) -> None:
    model = read_yaml(ROOT / name, "a configuration")["model"]
    kind, given = import_object(model["class_path"]), settings.flat(model["init_args"])
    others = settings.chosen(kind, given)
    assert others == {setting: AT_VIT_L[setting] for setting in others}
    defaults = signature(kind).parameters
    assert all(defaults[setting].default is None for setting in others if not setting.startswith("choices."))
    if "choices" in defaults:
        named = {setting for setting in given if setting.startswith("choices.")}
        assert named == {f"choices.{each.name}" for each in fields(defaults["choices"].default)}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_class_of_a_benchmark_takes_its_arguments(name: str) -> None:
    assert benchmark_of(name).models


@pytest.mark.parametrize("name", CONFIGS + BENCHMARKS)
def test_it_opens_with_its_command_time_and_score(name: str) -> None:
    head = re.split(r"\nmodels?:", (ROOT / name).read_text())[0]

    assert f"-c {name}" in head
    assert "\n# Time:" in head
    assert "\n# Score:" in head


@pytest.mark.parametrize(("right", "wrong"), [("prompt_length:", "prompt_lenght:"), ("epochs: 2", "epochs: two")])
def test_a_broken_one_is_seen(right: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text((ROOT / "configs/af_clip.yaml").read_text().replace(right, wrong))

    with pytest.raises(SystemExit):
        read(broken, monkeypatch)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_figure_that_a_paper_prints_of_its_method_has_a_configuration(paper: str) -> None:
    wanted = published_figures(paper)
    wanted = wanted[wanted["model"].isin(models.__all__)]
    covered = set()
    for name in BENCHMARKS:
        if f"--compare {paper}" not in (ROOT / name).read_text(encoding="utf-8"):
            continue
        benchmark = benchmark_of(name)
        targets = [target for protocol in benchmark.protocols for target in protocol.targets]
        for entry in benchmark.models.values():
            model, variant = entry.class_path.split(".")[-1], entry.variant or ""
            covered |= {(model, variant, f"{k}-shot", target) for k in entry.shots or [0] for target in targets}
    printed = wanted[["model", "variant", "setting", "dataset"]].fillna("").itertuples(index=False, name=None)
    assert set(printed) - covered == set()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_variant_is_one_that_the_paper_prints(name: str) -> None:
    paper = re.search(r"--compare (\w+)", (ROOT / name).read_text(encoding="utf-8"))
    figures = published_figures(paper.group(1)) if paper else published_figures()
    printed = set(zip(figures["model"], figures["variant"], strict=True))
    for entry in benchmark_of(name).models.values():
        assert entry.variant is None or (entry.class_path.split(".")[-1], entry.variant) in printed


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_paper_is_compared_with_trainings_on_all_images_in_its_batches(name: str) -> None:
    if "--compare" not in (ROOT / name).read_text(encoding="utf-8"):
        return
    benchmark = benchmark_of(name)
    assert all(protocol.auxiliary.init_args["val_ratio"] == 0 for protocol in benchmark.protocols)
    for entry in benchmark.models.values():
        published = getattr(entry.model_class, "paper_batch_size", None)
        assert published in {None, entry.train_batch_size or benchmark.train_batch_size}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_pictures_of_other_numbers_are_drawn_elsewhere_than_those_of_the_readme(name: str) -> None:
    for protocol in benchmark_of(name).protocols:
        for spec in (protocol.auxiliary, *protocol.targets.values()):
            if spec.class_path == "anomalib_zsad.Synthetic" and {"test_good", "test_defective"} & set(spec.init_args):
                assert spec.init_args["root"] != signature(Synthetic).parameters["root"].default
