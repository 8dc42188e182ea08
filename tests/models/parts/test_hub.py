"""Models in folders and on the hub."""

import json
from pathlib import Path

import pytest
import torch

from anomalib_zsad import AFClip, Ensemble
from tests.support.contract import images
from tests.support.small_clip import IMAGE_SIZE


def small(clip: Path, **arguments) -> AFClip:
    return AFClip(pretrained=clip, image_size=IMAGE_SIZE, **arguments)


@torch.no_grad()
def test_a_folder_gives_the_models_scores(small_clip, tmp_path):
    model = small(small_clip, seed=5, scales=(1, 3)).eval()
    model.trained_on = ["VisA/candle"]
    model.save_weights(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(model.record()))
    again = AFClip.from_pretrained(tmp_path, pretrained=small_clip)
    assert not again.training
    assert torch.equal(again.model(images()).pred_score, model.model(images()).pred_score)
    assert torch.equal(again.model(images()).anomaly_map, model.model(images()).anomaly_map)
    assert again.record() == model.record()


def test_what_is_no_name_is_told(tmp_path):
    with pytest.raises(
        ValueError, match=r"expected a folder of save_pretrained, .*, got '/gone/away/x', which is none"
    ):
        AFClip.from_pretrained("/gone/away/x")
    with pytest.raises(ValueError, match="Ensemble has no trained weights of its own in a folder"):
        Ensemble.from_pretrained(tmp_path)
