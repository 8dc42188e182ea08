import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.metrics import F1AdaptiveThreshold
from torch import Tensor

from anomalib_zsad.evaluation.f1_threshold import BinnedF1Threshold
from tests.support.scored_batches import scored_batch

FIELDS = ["pred_score", "gt_label"]


def batch(scores: Tensor, labels: Tensor) -> ImageBatch:
    return scored_batch(scores.tolist(), labels.int().tolist())


def test_it_is_anomalibs_to_a_bins_width() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(60, generator=generator) < 0.3
    scores = (torch.rand(60, generator=generator) * 0.7 + 0.3 * labels).clamp(0, 1)
    ours, anomalibs = BinnedF1Threshold(fields=FIELDS), F1AdaptiveThreshold(fields=FIELDS)
    for part in (slice(0, 20), slice(20, 60)):
        for metric in (ours, anomalibs):
            metric.update(batch(scores[part], labels[part]))
    assert ours.compute().item() == pytest.approx(anomalibs.compute().item(), rel=1e-2)


@pytest.mark.parametrize("label", [0, 1])
def test_one_kind_alone_is_told(label: int, caplog: pytest.LogCaptureFixture) -> None:
    scores = torch.tensor([0.25, 0.5])
    threshold = BinnedF1Threshold(fields=FIELDS)
    threshold.update(batch(scores, torch.full((2,), label)))
    found = threshold.compute()
    assert (scores >= found).tolist() == [bool(label)] * 2
    assert ("No normal" if label else "No anomalous") in caplog.text
