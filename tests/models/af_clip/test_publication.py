"""Published adapters by name, from a server on this machine that has files in the authors' format."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from torch import nn

from anomalib_zsad import AFClip, KAnoClip
from anomalib_zsad.clip.fetching import git_blob_id
from anomalib_zsad.evaluation.evaluator import training_notes
from anomalib_zsad.models.af_clip.publication import PUBLICATIONS
from anomalib_zsad.models.af_clip.released import _OWN_NAMES
from anomalib_zsad.models.parts import publication
from tests.support.contract import images
from tests.support.file_server import FileServer, file_server
from tests.support.small_clip import IMAGE_SIZE

FOLDER = f"/Faustinaqq/AF-CLIP/{PUBLICATIONS['released/visa'].commit}/weight"


@pytest.fixture
def source(small_clip: Path) -> AFClip:
    """The model whose adapter is published."""
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, seed=5)
    model.trained_on = ["VisA/candle"]
    return model


@pytest.fixture
def web() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


@pytest.fixture
def server(web: FileServer, source: AFClip, monkeypatch, tmp_path) -> FileServer:
    state = source.model.state_dict()
    authors = {
        "visa_prompt.pt": nn.Parameter(state["prompts.vectors"]),
        "visa_adaptor.pt": {theirs: state[ours] for theirs, ours in _OWN_NAMES.items()},
    }
    published = PUBLICATIONS["released/visa"]
    blobs = {}
    for name, content in authors.items():
        torch.save(content, tmp_path / name)
        web.files[f"{FOLDER}/{name}"] = (tmp_path / name).read_bytes()
        blobs[f"weight/{name}"] = git_blob_id(tmp_path / name)
    monkeypatch.setattr(publication, "_RAW", web.url)
    monkeypatch.setitem(PUBLICATIONS, "released/visa", replace(published, blobs=blobs))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("ANOMALIB_ZSAD_HOME", str(tmp_path / "home"))
    return web


def build(clip: Path, **arguments) -> AFClip:
    return AFClip(pretrained=clip, image_size=IMAGE_SIZE, weights="released/visa", **arguments)


def test_git_names_a_file_so(tmp_path):
    (tmp_path / "a").write_bytes(b"what is up, doc?")
    assert git_blob_id(tmp_path / "a") == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"


@torch.no_grad()
def test_a_name_fetches_once_and_gives_the_authors_scores(server, source, small_clip, tmp_path, caplog):
    expected = source.eval().model(images())
    with caplog.at_level(logging.WARNING, "anomalib_zsad"):
        model = build(small_clip).eval()
    assert torch.equal(model.model(images()).pred_score, expected.pred_score)
    assert torch.equal(model.model(images()).anomaly_map, expected.anomaly_map)
    assert len([message for message in caplog.messages if "no licence" in message]) == 2
    assert len(server.requests) == 2

    caplog.clear()
    again = build(small_clip, scales=(1, 3)).eval()
    assert again.trained_on == model.trained_on
    assert len(server.requests) == 2
    assert "licence" not in caplog.text
    for file in ("visa_prompt.pt", "visa_adaptor.pt"):  # the converted file is enough
        (tmp_path / "home" / "af_clip" / file).unlink()
    build(small_clip)


def test_its_auxiliary_dataset_is_known(server, small_clip, visa_root):
    model = build(small_clip)
    assert len(model.trained_on) == 12
    from anomalib_zsad import AllCategories, MVTec, VisA

    notes = training_notes(model.trained_on, VisA(visa_root), ["candle"])
    assert notes == {"candle": "not zero-shot: the model was trained on this category"}
    assert not training_notes(model.trained_on, AllCategories(MVTec(visa_root)), ["bottle"])


def test_files_put_there_by_hand_need_no_network(server, small_clip, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "home" / "af_clip"
    with pytest.raises(FileNotFoundError, match=rf"visa_prompt.pt .*HF_HUB_OFFLINE.*fetch http.*put it at {folder}"):
        build(small_clip)
    folder.mkdir(parents=True)
    for file in ("visa_prompt.pt", "visa_adaptor.pt"):
        (folder / file).write_bytes((tmp_path / file).read_bytes())
    build(small_clip)
    assert server.requests == []


def test_half_a_download_leaves_nothing(server, small_clip, tmp_path):
    server.missing_bytes = 100
    with pytest.raises(FileNotFoundError, match=r"visa_prompt.pt is not on this machine and could not be downloaded"):
        build(small_clip)
    assert not list((tmp_path / "home").rglob("*.*"))


def test_another_content_is_refused(server, small_clip, tmp_path):
    server.files[f"{FOLDER}/visa_adaptor.pt"] += b"\0"
    with pytest.raises(ValueError, match=r"visa_adaptor.pt: expected the file that git stores as .*, got "):
        build(small_clip)
    assert [path.name for path in (tmp_path / "home").rglob("*.*")] == ["visa_prompt.pt"]


def test_an_unknown_name_lists_the_known_ones(small_clip):
    with pytest.raises(ValueError, match=r"expected one of released/visa, released/mvtec for AFClip, got 'released/x'"):
        AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, weights="released/x")
    with pytest.raises(ValueError, match=r"expected an adapter file for KAnoClip, got 'released/visa'"):
        KAnoClip(pretrained=small_clip, image_size=IMAGE_SIZE, weights="released/visa")
