"""Scores, weights, thresholds and memories that cannot be meant are refused by name."""

import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch

from anomalib_zsad.models.parts.validity import ScoreCheck, check_scores, check_tensors

NAN, INFINITY = float("nan"), float("inf")


def scored(score: float, pixel: float = 0.5) -> tuple[InferenceBatch, ImageBatch]:
    maps = torch.full((2, 1, 3, 3), 0.5)
    maps[1, 0, 2, 2] = pixel
    batch = ImageBatch(image=torch.zeros(2, 3, 3, 3), image_path=["a.png", "b.png"])
    return InferenceBatch(pred_score=torch.tensor([0.5, score]), anomaly_map=maps), batch


def test_scores_in_the_unit_range_pass() -> None:
    for score, pixel in ((0.0, 1.0), (1.0, 0.0), (1 + 1e-7, -1e-7)):
        check_scores(*scored(score, pixel))


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY, 1.1, -0.1])
def test_a_score_that_is_none_names_its_image(value: float) -> None:
    with pytest.raises(ValueError, match=rf"b\.png: expected scores in \[0, 1\], got pred_score {value:g}: "):
        check_scores(*scored(value))
    with pytest.raises(ValueError, match=rf"b\.png: expected scores in \[0, 1\], got anomaly_map {value:g}: "):
        check_scores(*scored(0.5, value))


def test_validation_data_are_checked_when_the_epoch_ends() -> None:
    check = ScoreCheck()
    for value in (0.5, NAN):
        result, batch = scored(value)
        check.on_validation_batch_end(None, None, None, batch.update(**result._asdict()), 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"b\.png: expected scores in \[0, 1\], got pred_score nan"):
        check.on_validation_epoch_end(None, None)  # type: ignore[arg-type]
    check.on_validation_epoch_start(None, None)  # type: ignore[arg-type]
    check.on_validation_epoch_end(None, None)  # type: ignore[arg-type]


def test_a_member_of_an_ensemble_may_score_beyond_them() -> None:
    check_scores(*scored(17.0), member="Padim")
    with pytest.raises(ValueError, match=r"b\.png: expected finite scores of Padim, got pred_score inf"):
        check_scores(*scored(INFINITY), member="Padim")


EXPECTED = {
    "model.weight": torch.zeros(2),
    "model.norm.running_var": torch.ones(2),
    "model.norm.num_batches_tracked": torch.tensor(0),
    "model.memory.features": torch.empty(0, 0, 0),
    "post_processor._image_threshold": torch.tensor(NAN),
}


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("model.weight", torch.tensor([0, NAN]), "to be finite, got 1 of 2 values that are not"),
        ("model.weight", torch.tensor([INFINITY, 0]), "to be finite, got 1 of 2 values that are not"),
        ("model.weight", torch.tensor([0, 1]), "to be of float32, got int64"),
        ("model.weight", "weight", "to be a tensor, got str"),
        ("model.norm.running_var", torch.tensor([1.0, -1.0]), "of at least 0, got -1"),
        ("model.memory.features", torch.full((1, 2, 3), NAN), "to be finite"),
        ("model.memory.features", torch.ones(1, 2, 3), "to be a memory of features of length 1"),
        ("model.memory.features", torch.ones(3), "to be a memory of features of length 1"),
        ("post_processor._image_threshold", torch.tensor(2.0), r"in \[0, 1\], got 2"),
        ("post_processor._image_threshold", torch.tensor(INFINITY), "to be finite"),
    ],
)
def test_tensors_that_cannot_be_meant_are_named(name: str, value: torch.Tensor, fault: str) -> None:
    check_tensors(EXPECTED, EXPECTED, "a.ckpt")
    with pytest.raises(ValueError, match=f"a.ckpt: expected {name} {fault}"):
        check_tensors({**EXPECTED, name: value}, EXPECTED, "a.ckpt")
