"""Table 4 of the AF-CLIP paper: each part changes the result, and what is switched off does not learn."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from anomalib_zsad.data import VisA
from anomalib_zsad.models import AFClip
from tests.models.af_clip.test_adapter import aggregate_slowly
from tests.support.contract import engine_in

FIXED = ["a photo of an object without defect.", "a photo of an object with defect."]
ROWS = {
    "base": {"adaptor": False, "prompt_length": 0, "states": FIXED, "feature_layers": [4], "scales": [1]},
    "V1": {"adaptor": False, "feature_layers": [4], "scales": [1]},
    "V2": {"feature_layers": [4], "scales": [1]},
    "V3": {"scales": [1]},
    "V4": {},
}


def made(small_clip, row: str, **arguments) -> AFClip:
    return AFClip(pretrained=small_clip, image_size=56, **ROWS[row], **arguments)


def images() -> torch.Tensor:
    return torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_each_part_changes_the_result(small_clip):
    maps = [made(small_clip, row).model(images()).anomaly_map for row in ROWS]
    assert all((before - after).abs().max() > 1e-4 for before, after in pairwise(maps))


@pytest.mark.parametrize(
    ("row", "learns"),
    [("base", set()), ("V1", {"prompts"}), ("V2", {"prompts", "adaptor"}), ("V4", {"prompts", "adaptor"})],
)
def test_what_is_switched_off_does_not_learn(small_clip, row, learns):
    model = made(small_clip, row).model
    assert {name.split(".")[0] for name, each in model.named_parameters() if each.requires_grad} == learns


@torch.no_grad()
def test_without_an_adaptor_tokens_are_compared_as_clip_projects_them(small_clip):
    model = AFClip(pretrained=small_clip, image_size=56, adaptor=False, scales=[1, 3]).model
    taps, text = model.encoder(images()), model.text_features()
    sets = [aggregate_slowly(tap, taps.grid, window, 4.0) for tap in taps.tokens for window in (1, 3)]
    unit = [F.normalize(model.encoder.clip.project(each), dim=-1) for each in sets]
    wanted = sum(each @ text.T for each in unit) / 0.07

    found = model.compare(taps, model.text_features()[None])

    torch.testing.assert_close(found.image, wanted[:, 0], atol=1e-3, rtol=0)
    torch.testing.assert_close(found.patches.flatten(1, 2), wanted[:, 1:], atol=1e-3, rtol=0)
    weights = torch.rand(2, wanted.shape[1])
    sums = torch.stack([(weights[..., None] * each).sum(1) for each in unit])
    torch.testing.assert_close(torch.cat([each.unit_sums(weights) for each in found.tokens]), sums, atol=1e-4, rtol=0)


def test_prompts_alone_are_trained_and_saved(small_clip, visa_root, tmp_path):
    model = made(small_clip, "V1", epochs=1)
    before = model.model.prompts.vectors.clone()
    smooth = []
    model.loss.register_forward_pre_hook(lambda _, given: smooth.append(given[2].is_floating_point()))
    engine = engine_in(tmp_path)
    engine.fit(model, datamodule=VisA(root=visa_root, num_workers=0))
    assert not torch.equal(model.model.prompts.vectors, before)
    assert set(smooth) == {True}  # masks resized as the images are, not to the nearest pixel
    again = AFClip.load_from_checkpoint(engine.best_model_path, pretrained=small_clip)
    assert torch.equal(again.model.prompts.vectors, model.model.prompts.vectors)


def test_what_cannot_learn_is_tested_as_it_is_and_not_trained(small_clip, visa_root, tmp_path, caplog):
    model, data = made(small_clip, "base"), VisA(root=visa_root, num_workers=0)
    with pytest.raises(ValueError, match="AFClip has nothing to train with these options"):
        engine_in(tmp_path).fit(model, datamodule=data)
    (metrics,) = engine_in(tmp_path).test(made(small_clip, "base"), datamodule=data)
    assert "pixel_AUROC" in metrics
    assert "no trained weights" not in caplog.text
