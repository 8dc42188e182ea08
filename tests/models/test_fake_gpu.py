"""Every method runs on a GPU, in every precision, and reads no value back between the images and the scores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import anomalib_zsad
from anomalib_zsad.evaluation.evaluator import ZeroShotEvaluator
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.models.parts.validity import ScoreCheck
from tests.models.kano_clip.building import SMALL
from tests.support.fake_gpu import FakeBatch, fake_gpu
from tests.support.small_clip import IMAGE_SIZE

LAYERS = {"feature_layers": [2]}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "af_clip": ("AFClip", {**LAYERS, "scales": [1, 3]}),
    "af_clip_plus": ("AFClip", {**LAYERS, "scales": [1, 3]}),
    "acd_clip": ("ACDClip", {"n_groups": 2}),
    "wmoe_clip": ("WMoEClip", LAYERS),
    "kano_clip": ("KAnoClip", {**SMALL, **LAYERS}),
    "anomaly_clip": ("AnomalyClip", LAYERS),
    "clip_zero_shot": ("ClipZeroShot", {}),
}
TRAINED = METHODS.keys() - {"af_clip_plus", "clip_zero_shot"}
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
STEPS = dict(zip(PRECISIONS, ("validation_step", "test_step", "predict_step"), strict=True))
"""One for each precision: they are the same function."""

WAITS: dict[str, Callable[[Tensor], Any]] = {
    "item": lambda x: x.sum().item(),
    "bool": lambda x: 1 if x.isfinite().all() else 0,
    "float": lambda x: [float(each) for each in x[0]],
    "int": lambda x: x[: int(x.argmax())],
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu", non_blocking=True),
    "copy": lambda x: torch.ones(4, 4).copy_(x),
    "numpy": lambda x: x.numpy(),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "unique": lambda x: x.unique(),
    "bincount": lambda x: x.int().flatten().bincount(),
    "equal": lambda x: torch.equal(x, x),
    "repeat": lambda x: x.repeat_interleave(x[0].int(), dim=0),
    "list": lambda x: x[[0, 1]],
    "index": lambda x: x[torch.tensor([0, 1])],
    "constant": lambda x: x + torch.tensor([1.0, 2.0, 3.0, 4.0], device=x.device),
    "moved": lambda x: x + torch.ones(4).to(x),
    "mixed": lambda x: x + torch.ones(4),
}
MIXES: dict[str, Callable[[Tensor], Any]] = {
    "matrices": lambda x: x.half() @ x,
    "batches": lambda x: x[None].half() @ x[None],
    "linear": lambda x: F.linear(x.half(), x),
    "convolution": lambda x: F.conv2d(x[None, None].half(), x[None, None]),
    "attention": lambda x: F.scaled_dot_product_attention(x[None].half(), x[None], x[None]),
    "sampling": lambda x: F.grid_sample(x[None, None].half(), x[None, :, :2, None].mT, align_corners=False),
}
FINE: dict[str, Callable[[Tensor], Any]] = {
    "number": lambda x: torch.where(x > 0, 0.5, x * torch.tensor(2.0)),
    "constant": lambda x: x + torch.arange(4, device=x.device) + torch.ones(4).to(x, non_blocking=True),
    "autocast": lambda x: x.half().float() @ x,
}


def build(name: str, clip: Path) -> Any:
    class_name, arguments = METHODS[name]
    model = getattr(anomalib_zsad, class_name)(pretrained=clip, image_size=IMAGE_SIZE, **arguments).eval()
    model.trained_on = ["VisA/candle"]
    if name == "af_clip_plus":
        model.model.remember(torch.randn(1, 1, 3, IMAGE_SIZE, IMAGE_SIZE))
        model.memory_of = {"reference": "a folder", "references": ["an image"]}
    return model


def images(count: int = 3) -> FakeBatch:
    mask = torch.zeros(count, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
    image, label = torch.randn(count, 3, IMAGE_SIZE, IMAGE_SIZE), torch.arange(count) % 2
    names = ["candle", "pcb1", "candle"]
    return FakeBatch(image=image, gt_label=label, gt_mask=mask, category=names, image_path=None)


@pytest.fixture(scope="module", params=METHODS)
def method(request: pytest.FixtureRequest, shallow_clip: Path) -> tuple[str, Any]:
    """A method, and its model that has scored, so that the constants of its image size are there."""
    made = build(request.param, shallow_clip)
    with torch.no_grad():
        made.predict_batch(images())
        if request.param in TRAINED:
            made.loss_terms(images())
    return request.param, made


@pytest.mark.parametrize("precision", PRECISIONS)
def test_steps_stay_on_the_device(method, precision):
    name, model = method
    with fake_gpu(PRECISIONS[precision]) as gpu:
        there, batch = gpu.moved(model), gpu.moved(images())
        with torch.no_grad():
            scored = getattr(there, STEPS[precision])(batch, 0)
        assert scored.pred_score.shape == (3,)
        assert scored.anomaly_map.shape == (3, 1, IMAGE_SIZE, IMAGE_SIZE)
        losses = [there.train().training_step(batch, 0)] if name in TRAINED else []
    made = [scored.pred_score, scored.anomaly_map, *losses]
    assert {(each.device.type, each.dtype) for each in made} == {("cuda", torch.float32)}
    assert (gpu.products == {torch.float32}) == (precision == "fp32")


def test_the_end_of_a_batch_of_validation_waits_for_nothing():
    evaluator, post_processor, scores = (
        ZeroShotEvaluator(),
        MonotonePostProcessor(),
        torch.rand(3, 1, IMAGE_SIZE, IMAGE_SIZE),
    )
    with fake_gpu() as gpu:
        batch = gpu.moved(images().update(pred_score=scores.amax((1, 2, 3)), anomaly_map=scores))
        evaluator, post_processor = gpu.moved(evaluator), gpu.moved(post_processor)
        metric = post_processor._pixel_threshold_metric
        metric.counts = gpu.moved(metric.counts)
        for callback in (ScoreCheck(), evaluator, post_processor):
            callback.on_validation_batch_end(None, None, batch, batch, 0)
    assert metric.counts.is_cuda


@pytest.mark.parametrize("operation", WAITS.values(), ids=WAITS)
def test_what_waits_for_a_gpu_is_found(operation):
    operation(torch.rand(4, 4))
    with fake_gpu() as gpu, pytest.raises((RuntimeError, AssertionError)):
        operation(gpu.moved(torch.rand(4, 4)))


@pytest.mark.parametrize("operation", MIXES.values(), ids=MIXES)
def test_mixed_types_are_found(operation):
    with pytest.raises(RuntimeError):
        operation(torch.rand(4, 4))
    with fake_gpu() as gpu, pytest.raises((RuntimeError, AssertionError)):
        operation(gpu.moved(torch.rand(4, 4)))


@pytest.mark.parametrize("operation", FINE.values(), ids=FINE)
def test_what_a_gpu_does_is_let_through(operation):
    with fake_gpu() as gpu:
        assert operation(gpu.moved(torch.rand(4, 4))).is_cuda
