"""Tests mirror the package: `a/b.py` is tested by `tests/a/test_b.py`, or a contract there, or as the table says."""

from pathlib import Path

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "anomalib_zsad"

ELSEWHERE = {
    "anomalib": "seam/test_registration.py",
    "benchmark/case_files": "benchmark/test_cases.py",
    "benchmark/config_file": "test_configs.py",
    "benchmark/entries": "benchmark/test_grid.py",
    "benchmark/one_category": "benchmark/test_grid.py",
    "benchmark/schedule": "benchmark/test_run.py",
    "benchmark/store": "benchmark/test_run.py",
    "clip/blocks": "clip/test_backbone.py",
    "clip/digest": "clip/test_weights.py",
    "clip/fetching": "clip/test_weights.py",
    "clip/carrying": "models/test_inventory.py",
    "clip/hub": "models/parts/test_hub_folders.py",
    "clip/backbone_inventory": "models/test_inventory.py",
    "clip/known_weights": "clip/test_weights.py",
    "clip/loading": "clip/test_backbone.py",
    "clip/needs": "models/test_backbones.py",
    "clip/plain_vision": "clip/test_backbone.py",
    "clip/positions": "clip/test_backbone.py",
    "clip/restricted": "clip/test_torch_file.py",
    "clip/text_tower": "clip/test_timm_vision.py",
    "commands/convert": "models/acd_clip/test_released.py",
    "commands/doctor": "installation/test_examination.py",
    "commands/experiments": "benchmark/test_run.py",
    "commands/knowledge_bases": "knowledge/test_commands.py",
    "commands/typed": "test_cli.py",
    "commands/weight_files": "test_cli.py",
    "data/category_datamodule": "data/test_known_sets.py",
    "data/industrial": "data/test_known_sets.py",
    "data/item": "data/test_category_dataset.py",
    "data/known_set": "data/test_known_sets.py",
    "data/layouts": "data/test_layouts.py",
    "data/medical": "data/test_known_sets.py",
    "evaluation/binning": "evaluation/test_pixel_scores.py",
    "evaluation/category_scores": "evaluation/test_intervals.py",
    "evaluation/extra": "evaluation/test_visualizer.py",
    "evaluation/scored_image": "evaluation/test_intervals.py",
    "evaluation/table": "evaluation/test_evaluator.py",
    "functional/sweep_bounds": "evaluation/test_pixel_scores.py",
    "installation/devices": "installation/test_examination.py",
    "knowledge/asking": "knowledge/test_build.py",
    "knowledge/connection": "knowledge/test_ollama_model.py",
    "knowledge/inspection": "knowledge/test_build.py",
    "knowledge/questions": "knowledge/test_build.py",
    "knowledge/schema": "knowledge/test_base.py",
    "models/choices": "test_configs.py",
    "models/clip_zero_shot": "models/clip_zero_shot/test_clip_zero_shot.py",
    "models/commands": "test_cli.py",
    "models/ensemble": "models/ensemble/test_ensemble.py",
    "models/parts/class_prompts": "models/acd_clip/test_prompts.py",
    "models/parts/common_arguments": "models/parts/test_argument_values.py",
    "models/parts/detector": "support/contract.py",
    "models/parts/heads": "support/contract.py",
    "models/parts/adapter_inventory": "models/test_inventory.py",
    "models/parts/memory": "models/af_clip/test_few_shot.py",
    "models/parts/mixin": "support/contract.py",
    "models/parts/model_card": "models/parts/test_hub_folders.py",
    "models/parts/persistence": "models/parts/test_settings.py",
    "models/parts/publication": "models/af_clip/test_publication.py",
    "models/parts/quantisation": "models/parts/test_export.py",
    "models/parts/record": "models/parts/test_settings.py",
    "models/parts/trained_weights": "models/parts/test_settings.py",
    "models/parts/weights_source": "models/parts/test_hub_folders.py",
    "seam": "seam/test_touched.py",
    "synthetic/drawing": "synthetic/drawing/test_pictures.py",
}
"""By module or folder, where those of its modules are tested that have no test file of their own name."""


def modules() -> list[Path]:
    """All modules of the package that hold more than names, relative to it and without suffix."""
    paths = (path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")) if not path.name.startswith("_"))
    return [path.with_suffix("") for path in paths]


def mirrored(module: Path) -> bool:
    """Whether a module has a test file of its name, or is of a method with a contract."""
    return any((TESTS / module.parent / f"test_{name}.py").exists() for name in (module.name, "contract"))


def places(module: Path) -> set[str]:
    """The entries of the table that speak of a module."""
    return {path.as_posix() for path in (module, *module.parents)} & ELSEWHERE.keys()


def test_every_module_is_tested() -> None:
    assert [str(module) for module in modules() if not mirrored(module) and not places(module)] == []


def test_the_table_is_needed_and_true() -> None:
    needed = set().union(*(places(module) for module in modules() if not mirrored(module)))
    assert sorted(ELSEWHERE.keys() - needed) == []
    assert sorted(name for name in ELSEWHERE.values() if not (TESTS / name).exists()) == []


def test_folders_of_tests_are_those_of_the_package() -> None:
    folders = {path.parent.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    assert sorted(str(folder) for folder in folders if not (PACKAGE / folder).is_dir()) == ["golden"]
