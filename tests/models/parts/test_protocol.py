import logging
from types import SimpleNamespace

import pytest

from anomalib_zsad.models import ACDClip, AFClip, AnomalyClip, KAnoClip, WMoEClip
from anomalib_zsad.models.parts.protocol import compare_batch_size


@pytest.mark.parametrize(
    ("size", "processes", "steps", "told"), [(6, 1, 1, 0), (3, 2, 1, 0), (8, 1, 1, 8), (6, 1, 2, 12)]
)
def test_a_batch_of_another_size_than_the_papers_is_told(size, processes, steps, told, caplog):
    loader = SimpleNamespace(batch_size=size)
    trainer = SimpleNamespace(
        train_dataloader=loader, world_size=processes, accumulate_grad_batches=steps, is_global_zero=True
    )
    with caplog.at_level(logging.INFO):
        compare_batch_size(trainer, 6)
    expected = f"A training step sees {told} images, the paper's 6: --data.train_batch_size 6 trains as published."
    assert [record.getMessage() for record in caplog.records] == ([expected] if told else [])


def test_the_papers_batch_sizes():
    sizes = {method: method.paper_batch_size for method in (AFClip, ACDClip, AnomalyClip, WMoEClip, KAnoClip)}
    assert sizes == {AFClip: 8, ACDClip: 6, AnomalyClip: 8, WMoEClip: 32, KAnoClip: None}  # KAnoCLIP's is not printed
