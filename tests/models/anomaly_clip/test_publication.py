"""Published checkpoints by name, put by hand where they are fetched to."""

from dataclasses import replace

import pytest
import torch

from anomalib_zsad import AnomalyClip
from anomalib_zsad.clip.fetching import git_blob_id
from anomalib_zsad.models.anomaly_clip.publication import PUBLICATIONS
from tests.support.small_clip import IMAGE_SIZE


def checkpoint(seed: int) -> dict[str, dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    state = {name: torch.randn(1, 1, 12, 64) for name in ("ctx_pos", "ctx_neg")}
    state |= {f"token_prefix_{each}": torch.ones(1, 1, 1, 64) for each in ("pos", "neg")}
    state |= {f"token_suffix_{each}": torch.ones(1, 1, 64, 64) for each in ("pos", "neg")}
    return {"prompt_learner": {**state, "compound_prompts_text.0": torch.randn(4, 64)}}


def test_each_name_finds_the_prompts_of_its_training(small_clip, tmp_path, monkeypatch):
    monkeypatch.setenv("ANOMALIB_ZSAD_HOME", str(tmp_path))
    loaded = {}
    for seed, (name, published) in enumerate(PUBLICATIONS.items()):
        with pytest.raises(FileNotFoundError, match=r"epoch_15.pth is not on this machine .*fetch https://raw\.github"):
            AnomalyClip(pretrained=small_clip, image_size=IMAGE_SIZE, weights=name)
        ((file, path),) = published.files.items()
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint(seed), file)
        monkeypatch.setitem(PUBLICATIONS, name, replace(published, blobs={path: git_blob_id(file)}))
        loaded[name] = AnomalyClip(pretrained=small_clip, image_size=IMAGE_SIZE, weights=name)
        expected = checkpoint(seed)["prompt_learner"]["ctx_pos"][0, 0]
        assert torch.equal(loaded[name].model.prompts.vectors[0], expected)
    assert {name: len(model.trained_on) for name, model in loaded.items()} == {
        "released/anomalyclip-visa": 12,
        "released/anomalyclip-mvtec": 15,
    }


def test_the_folders_of_the_authors_tell_what_was_tested():
    paths = {published.dataset: next(iter(published.blobs)).split("/")[1] for published in PUBLICATIONS.values()}
    assert paths == {"VisA": "9_12_4_multiscale", "MVTec": "9_12_4_multiscale_visa"}
