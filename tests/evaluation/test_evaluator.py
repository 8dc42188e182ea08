import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.metrics import AUROC
from lightning.pytorch import Trainer
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_zsad.data.item import CategoryBatch
from anomalib_zsad.evaluation.evaluator import ZeroShotEvaluator, training_notes
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.evaluation.table import NOT_POOLED, RANKING
from tests.support.scored_batches import Passing, Scored, scored_batch

TrainerWith = Callable[..., Trainer]


def random_batches(category: str, seed: int, batches: int = 3, size: int = 4) -> list[CategoryBatch]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(batches):
        labels = [0, 1] * (size // 2)
        masks = np.zeros((size, 16, 16), bool)
        masks[1::2, 2:6, 3:9] = True
        masks[1::2, 9:12, 9:12] = True
        maps = (rng.random((size, 16, 16)) * 0.6 + masks * rng.random((size, 1, 1)) * 0.4).astype(np.float32)
        scores = (rng.random(size) * 0.7 + np.array(labels) * 0.2).astype(np.float32).tolist()
        made.append(scored_batch(scores, labels, maps, masks, category, folder=f"data{number}"))
    return made


def evaluated(trainer_with: TrainerWith, batches: list[CategoryBatch], evaluator: ZeroShotEvaluator) -> pd.DataFrame:
    trainer_with(evaluator).test(Passing(), datamodule=Scored(batches), verbose=False)
    assert evaluator.table is not None
    return evaluator.table.set_index("category")


def test_metrics_are_those_of_each_category_and_their_mean(trainer_with: TrainerWith) -> None:
    batches = {name: random_batches(name, seed) for seed, name in enumerate(["bottle", "cable"])}
    mixed = [batch for pair in zip(*batches.values(), strict=True) for batch in pair]
    table = evaluated(trainer_with, mixed, ZeroShotEvaluator())
    for name, own in batches.items():
        labels = torch.cat([batch.gt_label for batch in own])
        scores = torch.cat([batch.pred_score for batch in own])
        maps = torch.cat([batch.anomaly_map for batch in own]).flatten()
        masks = torch.cat([batch.gt_mask for batch in own]).flatten()
        assert table.loc[name, "image_AUROC"] == pytest.approx(roc_auc_score(labels, scores))
        assert table.loc[name, "image_AP"] == pytest.approx(average_precision_score(labels, scores))
        assert table.loc[name, "pixel_AUROC"] == pytest.approx(roc_auc_score(masks, maps))
        assert table.loc[name, "pixel_AP"] == pytest.approx(average_precision_score(masks, maps))
        assert table.loc[name, "images"] == 12
        assert table.loc[name, "anomalous images"] == 6
    for metric in RANKING:
        assert table.loc["mean", metric] == pytest.approx(table[metric].iloc[:2].mean())
    assert table.loc["mean", "note"] == NOT_POOLED


def test_validation_logs_the_metrics_of_all_images_together(trainer_with: TrainerWith) -> None:
    batches = random_batches("bottle", 0) + random_batches("cable", 1)
    (logged,) = trainer_with(ZeroShotEvaluator()).validate(Passing(), datamodule=Scored(batches), verbose=False)
    labels, scores, masks, maps = (
        torch.cat([batch[field].flatten() for batch in batches])
        for field in ("gt_label", "pred_score", "gt_mask", "anomaly_map")
    )
    for level, truth, values in (("image", labels, scores), ("pixel", masks, maps)):
        assert logged[f"{level}_AUROC"] == pytest.approx(roc_auc_score(truth, values), abs=1e-4)
        assert logged[f"{level}_AP"] == pytest.approx(average_precision_score(truth, values), abs=1e-4)


def test_validation_logs_what_the_data_allow_and_a_users_metric_instead_of_ours(trainer_with: TrainerWith) -> None:
    without_masks = scored_batch([0.1, 0.7, 0.6], [0, 1, 0])
    (logged,) = trainer_with(ZeroShotEvaluator()).validate(Passing(), datamodule=Scored([without_masks]), verbose=False)
    assert logged == {"image_AUROC": 1.0, "image_AP": 1.0}
    for nothing in (scored_batch([0.1, 0.2], None), scored_batch([0.1, 0.2], [0, 0])):
        assert not trainer_with(ZeroShotEvaluator()).validate(Passing(), datamodule=Scored([nothing]), verbose=False)[0]
    own = ZeroShotEvaluator(val_metrics=AUROC(["pred_score", "gt_label"], prefix="image_"))
    (logged,) = trainer_with(own).validate(Passing(own), datamodule=Scored([without_masks]), verbose=False)
    assert logged == {"image_AUROC": 1.0, "image_AP": 1.0}


def test_one_category_has_no_mean_to_explain(trainer_with: TrainerWith) -> None:
    assert evaluated(trainer_with, random_batches("bottle", 0), ZeroShotEvaluator()).loc["mean", "note"] == ""


def test_the_means_are_logged_and_everything_is_written(trainer_with: TrainerWith, tmp_path: Path) -> None:
    batches = random_batches("bottle", 0) + random_batches("cable", 1)
    trainer = trainer_with(evaluator := ZeroShotEvaluator())
    (logged,) = trainer.test(Passing(), datamodule=Scored(batches), verbose=False)
    written = pd.read_csv(tmp_path / "metrics.csv")
    assert set(logged) == set(RANKING)
    for metric in RANKING:
        assert logged[metric] == pytest.approx(written[metric].iloc[-1], rel=1e-6)
    assert list(written["category"]) == ["bottle", "cable", "mean"]
    assert evaluator.table is not None
    scores = pd.read_csv(tmp_path / "scores.csv")
    own = scores[scores["category"] == "cable"]
    again = roc_auc_score(own["label"] == "anomalous", own["score"])
    assert again == pytest.approx(written.set_index("category").loc["cable", "image_AUROC"])
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.csv", "scores.csv", "curves.csv"}


def test_names_of_categories_and_files_do_no_harm_in_tables(
    trainer_with: TrainerWith, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    names = ["mean", "[/x]", "=1+1", "\x1b[2J", "caf\udce9"]
    batches = [scored_batch([0.2, 0.7], [0, 1], category=name) for name in names]
    table = evaluated(trainer_with, batches, ZeroShotEvaluator())
    assert (table.loc["mean", "images"], table.loc["mean (category)", "images"]) == (10, 2)
    assert "[/x]" in capsys.readouterr().out
    for file in ("metrics.csv", "scores.csv"):
        text = (tmp_path / file).read_text(encoding="utf-8")
        assert all(shown in text for shown in ("'=1+1", "\\x1b[2J", "caf\\udce9"))
        assert "\x1b" not in text


def test_the_batch_size_and_the_order_change_nothing(trainer_with: TrainerWith) -> None:
    batches = random_batches("bottle", 0) + random_batches("cable", 1)
    expected = evaluated(trainer_with, batches, ZeroShotEvaluator())
    single = [CategoryBatch.collate([item]) for batch in reversed(batches) for item in batch]
    result = evaluated(trainer_with, single, ZeroShotEvaluator())
    np.testing.assert_allclose(result[list(RANKING)], expected[list(RANKING)], rtol=1e-12)


def test_raw_scores_are_read_where_the_evaluator_comes_first(trainer_with: TrainerWith) -> None:
    batches = random_batches("cable", 0)
    expected = evaluated(trainer_with, random_batches("cable", 0), ZeroShotEvaluator())
    evaluator, post_processor = ZeroShotEvaluator(), MonotonePostProcessor()
    post_processor._image_threshold.fill_(0.9)
    trainer_with(evaluator, post_processor).test(Passing(), datamodule=Scored(batches), verbose=False)
    assert evaluator.table is not None
    result = evaluator.table.set_index("category")
    np.testing.assert_array_equal(result[list(RANKING)], expected[list(RANKING)])


@pytest.mark.parametrize("pixel_memory", [0, 2**30])
def test_binned_pixels_keep_their_bound_and_say_so(trainer_with: TrainerWith, pixel_memory: int) -> None:
    exact = evaluated(trainer_with, large_batches(), ZeroShotEvaluator())
    result = evaluated(trainer_with, large_batches(), ZeroShotEvaluator(pixel_memory=pixel_memory))
    assert ("binned, error at most" in result.loc["cable", "note"]) == (pixel_memory == 0)
    difference = abs(result.loc["cable", list(RANKING)] - exact.loc["cable", list(RANKING)])
    assert difference.max() < 1e-3


def large_batches() -> list[CategoryBatch]:
    """More pixels than a histogram has bytes for."""
    rng = np.random.default_rng(0)
    masks = np.zeros((4, 520, 520), bool)
    masks[2:, 40:90, 60:300] = True
    maps = (rng.random((4, 520, 520)) * 0.6 + 0.4 * masks).astype(np.float32)
    return [scored_batch([0.1, 0.3, 0.2, 0.4], [0, 0, 1, 1], maps, masks)]


class TestNotAvailable:
    def test_without_masks_only_image_metrics_are_given(self, trainer_with: TrainerWith, tmp_path: Path) -> None:
        maps = np.full((4, 8, 8), 0.5, np.float32)
        trainer = trainer_with(evaluator := ZeroShotEvaluator())
        batch = scored_batch([0.1, 0.6, 0.3, 0.9], [0, 1, 0, 1], maps)
        (logged,) = trainer.test(Passing(), datamodule=Scored([batch]), verbose=False)
        assert set(logged) == {"image_AUROC", "image_AP", "image_F1Max"}
        assert logged["image_AUROC"] == 1
        assert evaluator.table is not None
        assert evaluator.table["note"].iloc[0] == "no masks"
        assert pd.read_csv(tmp_path / "metrics.csv")["pixel_AUROC"].isna().all()

    @pytest.mark.parametrize(("label", "note"), [(0, "no anomalous image"), (1, "no normal image")])
    def test_one_class_gives_no_image_metrics(self, trainer_with: TrainerWith, label: int, note: str) -> None:
        masks = np.zeros((2, 8, 8), bool)
        masks[:, :2] = label
        maps = np.linspace(0, 1, 128, dtype=np.float32).reshape(2, 8, 8)
        table = evaluated(trainer_with, [scored_batch([0.1, 0.6], [label] * 2, maps, masks)], ZeroShotEvaluator())
        assert note in table.loc["cable", "note"]
        assert table.loc["cable", ["image_AUROC", "image_AP", "image_F1Max"]].isna().all()
        assert table.loc["cable", "pixel_AUROC"] > 0 if label else np.isnan(table.loc["cable", "pixel_AUROC"])

    def test_the_mean_is_over_the_categories_that_have_the_value(self, trainer_with: TrainerWith) -> None:
        normal = scored_batch([0.1, 0.6], [0, 0], category="screw")
        table = evaluated(trainer_with, [normal, *random_batches("cable", 0)], ZeroShotEvaluator())
        assert table.loc["mean", "image_AUROC"] == table.loc["cable", "image_AUROC"]
        assert "image_AUROC, image_AP, image_F1Max, pixel_AUROC" in table.loc["mean", "note"]
        assert "over 1 of 2 categories" in table.loc["mean", "note"]

    def test_constant_maps_have_no_thresholds_to_sweep(self, trainer_with: TrainerWith) -> None:
        masks = np.zeros((2, 8, 8), bool)
        masks[1, :2] = True
        maps = np.full((2, 8, 8), 0.5, np.float32)
        table = evaluated(trainer_with, [scored_batch([0.1, 0.6], [0, 1], maps, masks)], ZeroShotEvaluator())
        assert table.loc["cable", "pixel_AUROC"] == 0.5
        assert np.isnan(table.loc["cable", "pixel_AUPRO_200"])
        assert "no AUPRO_200" in table.loc["cable", "note"]

    def test_no_labels(self, trainer_with: TrainerWith) -> None:
        table = evaluated(trainer_with, [scored_batch([0.1, 0.6], None)], ZeroShotEvaluator())
        assert "no labels" in table.loc["cable", "note"]


class TestBadScores:
    @pytest.mark.parametrize("bad", [1.5, -0.1, float("nan")])
    def test_an_image_score_that_is_no_probability(self, trainer_with: TrainerWith, bad: float) -> None:
        batch = scored_batch([0.1, bad], [0, 1], category=["cable", "screw"])
        with pytest.raises(ValueError, match=r"data/screw/1\.png: expected probabilities .* image score"):
            evaluated(trainer_with, [batch], ZeroShotEvaluator())

    def test_a_map_that_holds_nan(self, trainer_with: TrainerWith) -> None:
        maps = np.full((2, 8, 8), 0.5, np.float32)
        maps[1, 3, 3] = np.nan
        with pytest.raises(ValueError, match=r"cable/1\.png: .* anomaly map"):
            evaluated(trainer_with, [scored_batch([0.1, 0.5], [0, 1], maps)], ZeroShotEvaluator())

    def test_a_mask_of_another_size(self, trainer_with: TrainerWith) -> None:
        maps, masks = np.full((1, 8, 8), 0.5, np.float32), np.zeros((1, 9, 8), bool)
        with pytest.raises(ValueError, match=r"cable/0\.png: expected a mask of .*\(8, 8\), got \(9, 8\)"):
            evaluated(trainer_with, [scored_batch([0.1], [0], maps, masks)], ZeroShotEvaluator())


def test_bf16_scores_are_read(trainer_with: TrainerWith) -> None:
    (batch,) = random_batches("cable", 0, batches=1)
    batch.__dict__["pred_score"] = batch.pred_score.bfloat16()
    batch.__dict__["anomaly_map"] = batch.anomaly_map.bfloat16()
    table = evaluated(trainer_with, [batch], ZeroShotEvaluator())
    assert table.loc["cable", list(RANKING)].notna().all()


def test_validation_computes_the_metrics_it_was_given(trainer_with: TrainerWith) -> None:
    metric = AUROC(fields=["pred_score", "gt_label"], prefix="image_")
    trainer = trainer_with(evaluator := ZeroShotEvaluator(val_metrics=[metric]))
    (logged,) = trainer.validate(Passing(evaluator), datamodule=Scored(random_batches("cable", 0)), verbose=False)
    assert set(logged) == {f"{level}_{name}" for level in ("image", "pixel") for name in ("AUROC", "AP")}
    assert evaluator.table is None


def test_a_second_run_starts_anew(trainer_with: TrainerWith) -> None:
    evaluator = ZeroShotEvaluator()
    evaluated(trainer_with, random_batches("bottle", 0), evaluator)
    table = evaluated(trainer_with, random_batches("cable", 1), evaluator)
    assert list(table.index) == ["cable", "mean"]


def test_processes_that_share_no_categories_are_refused() -> None:
    loader = Scored(random_batches("cable", 0)).test_dataloader()
    trainer = SimpleNamespace(world_size=2, test_dataloaders=loader)
    with pytest.raises(ValueError, match="Testing in 2 processes needs a datamodule of this package"):
        ZeroShotEvaluator().on_test_epoch_start(trainer, Passing())


def test_barebones_trainers_get_the_means(tmp_path: Path) -> None:
    trainer = Trainer(barebones=True, default_root_dir=tmp_path, accelerator="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.callbacks.append(evaluator := ZeroShotEvaluator())
        trainer.test(Passing(), datamodule=Scored(random_batches("cable", 0)), verbose=False)
    assert evaluator.table is not None
    assert trainer.logged_metrics["image_AUROC"] == pytest.approx(evaluator.table["image_AUROC"].iloc[-1])


class TestTrainingData:
    def test_the_same_category_and_others_of_its_dataset_are_told_apart(self, trainer_with: TrainerWith) -> None:
        trainer = trainer_with(evaluator := ZeroShotEvaluator())
        batches = random_batches("candle", 0) + random_batches("pcb1", 1)
        trainer.test(Passing(trained_on=["VisA/candle"]), datamodule=Scored(batches, "Visa"), verbose=False)
        assert evaluator.table is not None
        assert list(evaluator.table["note"].iloc[:2]) == [
            "not zero-shot: the model was trained on this category",
            "the model was trained on other categories of this dataset",
        ]

    @pytest.mark.parametrize("trained_on", [[], ["VisA/candle"]])
    def test_another_dataset_is_zero_shot(self, trained_on: list[str]) -> None:
        assert training_notes(trained_on, Scored([], "MVTecAD"), ["candle"]) == {}

    def test_what_is_tested_is_the_target(self) -> None:
        source = Scored([], "MVTec")
        source.target = Scored([], "VisA")
        assert training_notes(["MVTec/bottle"], source, ["candle"]) == {}
        assert training_notes(["VisA/candle"], source, ["candle"]).keys() == {"candle"}


@pytest.mark.parametrize(("images_per_category", "size"), [(16, 96), (None, 256)])  # None: one, which is binned
def test_memory_does_not_grow_with_the_number_of_images(
    tmp_path: Path, images_per_category: int | None, size: int
) -> None:
    few, many = (peak_of_evaluation(count, images_per_category, size, tmp_path) for count in (48, 144))
    assert many < 1.1 * few


def peak_of_evaluation(count: int, images_per_category: int | None, size: int, folder: Path) -> int:
    """Bytes of numpy and Python, at most, for images that are gone once they are evaluated."""
    names = [f"category {number // (images_per_category or count)}" for number in range(count)]
    samples = SimpleNamespace(dataset=SimpleNamespace(samples=pd.DataFrame({"category": names})))
    alone = {"world_size": 1, "is_global_zero": True}
    trainer = SimpleNamespace(test_dataloaders=samples, default_root_dir=folder, barebones=False, **alone)
    evaluator, rng = ZeroShotEvaluator(pixel_memory=2**24), np.random.default_rng(0)
    evaluator.on_test_epoch_start(trainer, None)
    tracemalloc.start()
    for number, name in enumerate(names):
        mask = np.zeros((1, size, size), bool)
        mask[:, 20:60, 20:60] = bool(number % 2)
        pixels = rng.random((1, size, size), np.float32)
        evaluator.on_test_batch_end(trainer, None, None, scored_batch([0.5], [number % 2], pixels, mask, name), 0)
    evaluator.on_test_epoch_end(trainer, SimpleNamespace(log=lambda *_, **__: None))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert evaluator.table is not None
    assert evaluator.table["images"].iloc[-1] == count
    return peak
