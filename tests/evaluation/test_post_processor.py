import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch
from anomalib.data import InferenceBatch
from anomalib.metrics import F1AdaptiveThreshold
from anomalib.post_processing import PostProcessor
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from tests.support.scored_batches import Passing, Scored, scored_batch

TrainerWith = Callable[..., Trainer]
thresholds = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 1.0, 1e-9, float("nan")]))


def with_threshold(threshold: float, **options) -> MonotonePostProcessor:
    post_processor = MonotonePostProcessor(**options)
    post_processor._image_threshold.fill_(threshold)
    return post_processor


def normalised(post_processor: MonotonePostProcessor, scores: Tensor) -> Tensor:
    return post_processor(InferenceBatch(pred_score=scores, anomaly_map=None)).pred_score


@given(threshold=thresholds, scores=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=40))
def test_the_order_of_scores_stays(threshold: float, scores: list[float]) -> None:
    raw = torch.tensor(sorted(scores))
    result = normalised(with_threshold(threshold), raw)
    assert (result.diff() >= 0).all()
    assert (result.diff()[raw.diff() > 3e-7] > 0).all()
    assert result.min() >= 0
    assert result.max() <= 1


@given(threshold=thresholds, seed=st.integers(0, 10**6))
def test_metrics_stay(threshold: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randint(0, 2**16, (60,), generator=generator) / 2**16
    labels = torch.arange(60) % 3 == 0
    result = normalised(with_threshold(threshold), raw)
    assert roc_auc_score(labels, result) == roc_auc_score(labels, raw)
    assert average_precision_score(labels, result) == average_precision_score(labels, raw)


@pytest.mark.parametrize("threshold", [0.02, 0.37, 0.5, 0.9])
def test_the_map_goes_through_its_three_points(threshold: float) -> None:
    result = normalised(with_threshold(threshold), torch.tensor([0, threshold, 1]))
    assert result.tolist() == [0, 0.5, 1]


def test_without_a_threshold_scores_stay_as_they_are() -> None:
    raw = torch.rand(100)
    torch.testing.assert_close(normalised(MonotonePostProcessor(), raw), raw)
    assert MonotonePostProcessor().raw_threshold("image") == 0.5


@given(
    threshold=st.one_of(st.floats(0.01, 0.99), st.just(float("nan"))),
    sensitivity=st.floats(0.05, 0.95),
    normalise=st.booleans(),
)
def test_decisions_flip_at_the_raw_threshold(threshold: float, sensitivity: float, normalise: bool) -> None:
    post_processor = with_threshold(threshold, image_sensitivity=sensitivity, enable_normalization=normalise)
    flips_at = post_processor.raw_threshold("image")
    around = torch.stack([flips_at - 1e-5, flips_at + 1e-5])
    assert post_processor(InferenceBatch(pred_score=around, anomaly_map=None)).pred_label.tolist() == [False, True]


def validated(trainer_with: TrainerWith, labels: list[int], scores: list[float], masks: np.ndarray, maps: np.ndarray):
    post_processor = MonotonePostProcessor()
    batches = [scored_batch(scores[i::2], labels[i::2], maps[i::2].copy(), masks[i::2].copy()) for i in range(2)]
    trainer_with(post_processor).validate(Passing(), datamodule=Scored(batches), verbose=False)
    return post_processor


def test_thresholds_of_validation_are_those_of_best_f1(trainer_with: TrainerWith) -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((8, 20, 20), bool)
    masks[4:, 5:12, 5:12] = True
    maps = (rng.random((8, 20, 20)) * 0.5 + masks * 0.3).astype(np.float32)
    labels, scores = [0, 0, 0, 0, 1, 1, 1, 1], [0.1, 0.2, 0.45, 0.3, 0.4, 0.6, 0.7, 0.8]
    post_processor = validated(trainer_with, labels, scores, masks, maps)
    assert post_processor.raw_threshold("image") == pytest.approx(0.4)
    exact = F1AdaptiveThreshold(fields=["anomaly_map", "gt_mask"])
    exact.update(scored_batch(scores, labels, maps, masks))
    assert post_processor.raw_threshold("pixel").item() == pytest.approx(exact.compute().item(), rel=3e-4)


@pytest.mark.parametrize("label", [0, 1])
def test_validation_data_of_one_class_warns_and_bounds_its_scores(
    trainer_with: TrainerWith, caplog: pytest.LogCaptureFixture, label: int
) -> None:
    maps = np.linspace(0.2, 0.6, 128, dtype=np.float32).reshape(2, 8, 8)
    with caplog.at_level(logging.WARNING):
        post_processor = validated(trainer_with, [label] * 2, [0.3, 0.5], np.full(maps.shape, bool(label)), maps)
    assert f"No {'normal' if label else 'anomalous'} pixel in the validation data" in caplog.text
    assert post_processor.raw_threshold("image") == pytest.approx(0.3 if label else 0.5)
    assert post_processor.raw_threshold("pixel") == pytest.approx(0.2 if label else 0.6, rel=1e-3)
    assert (torch.from_numpy(maps) > post_processor.raw_threshold("pixel")).float().mean().round() == label


def test_saturated_normal_maps_leave_a_usable_threshold(trainer_with: TrainerWith) -> None:
    ones = np.ones((2, 8, 8), np.float32)
    post_processor = validated(trainer_with, [0, 0], [1.0, 1.0], np.zeros(ones.shape, bool), ones)
    assert torch.isfinite(normalised(post_processor, torch.tensor([0.0, 0.5, 1.0]))).all()


def test_state_goes_both_ways_between_it_and_anomalibs() -> None:
    stock, own = PostProcessor(), with_threshold(0.3)
    stock.load_state_dict(own.state_dict())
    own.load_state_dict(PostProcessor().state_dict())
    assert stock.image_threshold == pytest.approx(0.3)
    assert own.image_threshold.isnan()
    assert own.checkpoint_config() == stock.checkpoint_config()


def test_anomalibs_own_decides_alike_with_our_state() -> None:
    stock, own = PostProcessor(), with_threshold(0.3)
    stock.load_state_dict(own.state_dict())
    batch = InferenceBatch(pred_score=torch.linspace(0, 1, 20), anomaly_map=None)
    assert torch.equal(stock(batch).pred_label, own(batch).pred_label)
    old = {**own.state_dict(), "image_min": torch.tensor(float("nan"))}
    own.load_state_dict(old)
    assert own.image_min == 0


def test_a_threshold_that_is_set_stays_and_is_checked(trainer_with: TrainerWith) -> None:
    post_processor = MonotonePostProcessor()
    post_processor.fix_thresholds(image=0.9)
    post_processor.load_state_dict(with_threshold(0.3).state_dict())
    assert post_processor.image_threshold == pytest.approx(0.9)
    masks, maps = np.ones((2, 8, 8), bool), np.full((2, 8, 8), 0.5, np.float32)
    batches = [scored_batch([0.3, 0.5], [0, 1], maps, masks)]
    trainer_with(post_processor).validate(Passing(), datamodule=Scored(batches), verbose=False)
    assert post_processor.image_threshold == pytest.approx(0.9)
    assert post_processor.pixel_threshold == pytest.approx(0.5, rel=1e-3)
    with pytest.raises(ValueError, match=r"pixel_threshold must be a raw score between 0 and 1, got 1\.5"):
        post_processor.fix_thresholds(pixel=1.5)


def test_chosen_options_count_instead_of_a_checkpoints(caplog: pytest.LogCaptureFixture) -> None:
    post_processor = MonotonePostProcessor(image_sensitivity=0.95)
    with caplog.at_level(logging.INFO):
        post_processor.load_checkpoint_config(MonotonePostProcessor(pixel_sensitivity=0.7).checkpoint_config())
    assert (post_processor.image_sensitivity, post_processor.pixel_sensitivity) == (0.95, 0.7)
    assert caplog.messages == [
        "Post-processing options that override the checkpoint: image_sensitivity=0.95 (not 0.5)."
    ]


class Processing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.post_processor = with_threshold(0.3, image_sensitivity=0.4)

    def forward(self, scores: Tensor, maps: Tensor) -> InferenceBatch:
        return self.post_processor(InferenceBatch(pred_score=scores, anomaly_map=maps))


def test_export_gives_the_same_values() -> None:
    example = torch.rand(2), torch.rand(2, 1, 8, 8)
    exported = torch.export.export(Processing(), example).module()
    for result, expected in zip(exported(*example), Processing()(*example), strict=True):
        torch.testing.assert_close(result, expected)
