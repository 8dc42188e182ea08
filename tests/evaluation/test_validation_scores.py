import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from anomalib_zsad.evaluation.validation_scores import ValidationScores
from tests.support.scored_batches import scored_batch


def test_batches_are_scored_together() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.rand(40, generator=generator), torch.rand(40, generator=generator) < 0.4
    maps, masks = torch.rand(40, 5, 5, generator=generator), torch.rand(40, 5, 5, generator=generator) < 0.1
    validation = ValidationScores()
    for part in (slice(0, 7), slice(7, 40)):
        batch = scored_batch(
            scores[part].tolist(), labels[part].int().tolist(), maps[part].numpy(), masks[part].numpy()
        )
        validation.update(batch)
    found = validation.compute()
    for level, values, truth in (("image", scores, labels), ("pixel", maps, masks)):
        expected = binary_auroc(values.flatten(), truth.flatten().int()).item()
        assert found[f"{level}_AUROC"] == pytest.approx(expected, abs=1e-3)
        expected = binary_average_precision(values.flatten(), truth.flatten().int()).item()
        assert found[f"{level}_AP"] == pytest.approx(expected, abs=2e-3)


def test_levels_without_both_kinds_have_no_metric() -> None:
    validation = ValidationScores()
    validation.update(scored_batch([0.2, 0.7], [0, 1]))
    assert validation.compute() == {"image_AUROC": 1.0, "image_AP": 1.0}
    validation.reset()
    validation.update(scored_batch([0.2, 0.7], [1, 1]))
    assert validation.compute() == {}
