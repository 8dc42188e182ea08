"""Models in folders and on a hub that runs on this machine."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from anomalib.data import MVTecAD
from huggingface_hub import ModelCard

from anomalib_zsad import AFClip, ClipZeroShot, Ensemble, KAnoClip
from anomalib_zsad.evaluation.calibration import Calibration
from anomalib_zsad.models.parts import weights_source
from anomalib_zsad.models.parts.adapter_file import load_adapter, save_adapter
from tests.support.contract import engine_in, images
from tests.support.file_server import set_of_the_hub
from tests.support.hub_server import HubServer, hub_server
from tests.support.small_clip import IMAGE_SIZE

FILES = ["README.md", "config.json", "model.safetensors"]
NAME = "user/af-clip"


def small(clip: Path, **arguments) -> AFClip:
    model = AFClip(pretrained=clip, image_size=IMAGE_SIZE, **arguments)
    model.trained_on = ["VisA/candle", "VisA/pcb1"]
    return model.eval()


@pytest.fixture(scope="module")
def model(small_clip: Path) -> AFClip:
    """Other settings than the defaults; nobody changes it."""
    return small(small_clip, seed=5, scales=(1, 3))


@pytest.fixture
def folder(model: AFClip, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def hub(monkeypatch, tmp_path: Path) -> Iterator[HubServer]:
    with hub_server(monkeypatch, tmp_path) as server:
        yield server


def publish(hub: HubServer, folder: Path, name: str = NAME) -> str:
    return hub.commit(name, {path.name: path.read_bytes() for path in folder.iterdir()})


@torch.no_grad()
def score_alike(one: AFClip, other: AFClip) -> bool:
    pairs = [(each.model(images()).pred_score, each.model(images()).anomaly_map) for each in (one, other)]
    return all(torch.equal(*both) for both in zip(*pairs, strict=True))


# Folders


def test_a_folder_gives_the_models_scores(model, folder, small_clip):
    assert sorted(path.name for path in folder.iterdir()) == FILES
    again = AFClip.from_pretrained(folder, pretrained=small_clip)
    assert not again.training
    assert score_alike(again, model)
    assert again.trained_on == model.trained_on
    assert tuple(again.hparams["scales"]) == (1, 3)
    assert score_alike(AFClip(weights=str(folder), pretrained=small_clip), model)
    assert score_alike(AFClip.from_pretrained(folder / "model.safetensors", pretrained=small_clip), model)


def test_a_few_shot_model_takes_its_memory_along_and_no_path(small_clip, mvtec_root, tmp_path):
    reference = mvtec_root / "bottle" / "train" / "good"
    model = small(small_clip, reference=reference)
    model.save_pretrained(tmp_path / "saved")
    again = AFClip.from_pretrained(tmp_path / "saved", pretrained=small_clip)
    assert again.memory_of["digests"] == model.memory_of["digests"]
    assert again.memory_of["reference"] == "good"
    assert score_alike(again, model)
    for path in (tmp_path / "saved").iterdir():
        assert str(mvtec_root).encode() not in path.read_bytes()
        assert str(small_clip.parent).encode() not in path.read_bytes()


def test_a_folder_is_written_whole_or_not_at_all(model, folder, monkeypatch, tmp_path, small_clip):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = small(small_clip, seed=6)
    monkeypatch.setattr("anomalib_zsad.models.parts.hub_folders.save_trained", _no_space)
    for target in (folder, tmp_path / "new"):
        with pytest.raises(OSError, match="No space"):
            other.save_pretrained(target)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not (tmp_path / "new").exists()
    monkeypatch.undo()
    (folder / ".gitattributes").touch()  # a clone of a repository
    other.save_pretrained(folder)
    assert sorted(path.name for path in folder.iterdir()) == [".gitattributes", *FILES]
    assert score_alike(AFClip.from_pretrained(folder, pretrained=small_clip), other)
    with pytest.raises(FileExistsError, match=r"config\.json: expected a folder to save the model to, got a file"):
        model.save_pretrained(folder / "config.json")


def _no_space(*_) -> None:
    raise OSError(28, "No space left on device")


def test_damaged_folders_are_one_message_each(model, folder, small_clip, tmp_path):
    def load(kind=AFClip):
        return kind.from_pretrained(folder, pretrained=small_clip)

    with pytest.raises(ValueError, match=r"config\.json: expected the record of KAnoClip, got one of AFClip"):
        load(KAnoClip)
    config = json.loads((folder / "config.json").read_text())
    changed = {**config, "trained_on": ["MVTec/bottle"], "version": "9"}
    (folder / "config.json").write_text(json.dumps(changed))
    with pytest.raises(
        ValueError, match=r"expected the record of model.safetensors .* trained_on, version differ: one"
    ):
        load()
    for damaged in ("{", "[]", "[" * 100_000, "{}"):
        (folder / "config.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"config\.json: expected the record"):
            load()
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected a folder of save_pretrained .*, found no config\.json"):
        load()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: expected an adapter file"):
        load()


def test_what_cannot_be_shared_is_told(model, folder, small_clip, tmp_path):
    untrained = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE)
    with pytest.raises(ValueError, match="AFClip holds no trained weights"):
        untrained.save_pretrained(tmp_path / "new")
    for kind in (Ensemble, ClipZeroShot):
        with pytest.raises(ValueError, match=f"{kind.__name__} has no trained weights of its own"):
            kind.from_pretrained(folder)
    with pytest.raises(ValueError, match="ClipZeroShot has no trained weights of its own"):
        ClipZeroShot(pretrained=small_clip, image_size=IMAGE_SIZE).save_pretrained(tmp_path / "new")
    with pytest.raises(
        ValueError, match=r"expected a folder of save_pretrained, .*, got '/gone/away/x', which is none"
    ):
        AFClip.from_pretrained("/gone/away/x")
    with pytest.raises(ValueError, match="revision='v1': expected a repository on the hub with it"):
        AFClip.from_pretrained(folder, revision="v1")


# The card


def test_the_card_tells_what_the_model_is(small_clip, mvtec_root, tmp_path):
    model = small(small_clip, seed=5, scales=(1, 3))
    data = MVTecAD(mvtec_root, "bottle", num_workers=0, eval_batch_size=4)
    engine_in(tmp_path / "results").test(model, datamodule=data)
    scores = Calibration.of_scores([0.1] * 20, [0.2] * 20, 0.1, "/home/me/normal")
    model.post_processor.calibrate(scores)
    model.save_pretrained(tmp_path / "mine", repo_id=NAME, license="cc-by-4.0")

    card = ModelCard.load(tmp_path / "mine" / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert "AFClip" in card.data.tags
    result = {each.metric_type: each for each in card.data.eval_results}["image_AUROC"]
    assert result.dataset_name == "MVTec"
    assert result.metric_value == pytest.approx(model.evaluator.table.iloc[-1]["image_AUROC"], abs=1e-4)
    row = model.evaluator.table.set_index("category").loc["bottle"]
    assert f"| bottle | {row['images']} | {row['image_AUROC']:.4f} |" in card.text
    for told in (
        "--model anomalib_zsad.AFClip --model.weights hf://user/af-clip --model.pretrained clip.pt --data part.png",
        "AFClip.from_pretrained('user/af-clip', pretrained='clip.pt')",
        "- VisA: candle, pcb1",
        "0.1 of images, 0.2 of pixels, calibrated on 20 normal images of normal on ",
        "false alarms at most 0.1",
        "- `scales`: `[1, 3]`",
    ):
        assert told in card.text
    assert "/home/me" not in card.text

    model.evaluator.on_train_start(None, None)  # other weights from here on
    model.save_pretrained(tmp_path / "mine")
    text = (tmp_path / "mine" / "README.md").read_text()
    assert "Not tested since these weights were trained or loaded." in text
    assert "stated no licence" in text
    assert "--model.weights mine " in text


# The hub


def test_what_is_pushed_comes_back(model, hub, small_clip, monkeypatch):
    with pytest.raises(OSError, match=r"hf://user/af-clip cannot be pushed: .*HF_TOKEN"):
        model.push_to_hub(NAME)
    url = model.push_to_hub(NAME, token=hub.token, private=True, license="mit")
    assert url == f"{hub.url}/{NAME}/commit/{hub.resolve(NAME, 'main')}"
    assert sorted(hub.files(NAME)) == [".gitattributes", *FILES]

    with pytest.raises(
        FileNotFoundError, match=r"hf://user/af-clip: .*no such repository, or it is private: then log in"
    ):
        AFClip.from_pretrained(NAME, pretrained=small_clip)
    assert score_alike(AFClip.from_pretrained(NAME, token=hub.token, pretrained=small_clip), model)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert score_alike(AFClip(weights=f"hf://{NAME}", pretrained=small_clip), model)


def test_revisions_are_told_apart_and_the_cache_needs_no_network(model, folder, hub, small_clip, monkeypatch):
    first = publish(hub, folder)
    small(small_clip, seed=6).save_pretrained(folder)
    second = publish(hub, folder)
    assert score_alike(AFClip.from_pretrained(NAME, revision=first, pretrained=small_clip), model)
    assert score_alike(AFClip(weights=f"hf://{NAME}@{first}", pretrained=small_clip), model)
    assert not score_alike(AFClip.from_pretrained(f"hf://{NAME}@main", pretrained=small_clip), model)
    with pytest.raises(FileNotFoundError, match=r"hf://user/af-clip@v1: the repository has no revision v1"):
        AFClip(weights=f"hf://{NAME}@v1", pretrained=small_clip)

    set_of_the_hub(monkeypatch, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert score_alike(AFClip(weights=f"hf://{NAME}@{first}", pretrained=small_clip), model)
    assert not score_alike(AFClip.from_pretrained(NAME, pretrained=small_clip), model)
    assert hub.requests == []
    with pytest.raises(
        FileNotFoundError, match=r"hf://user/other: it is not in the hub's cache, and HF_HUB_OFFLINE is"
    ):
        AFClip(weights="hf://user/other", pretrained=small_clip)
    assert second == hub.resolve(NAME, "main")


def test_both_files_are_of_one_commit(model, folder, hub, small_clip, monkeypatch):
    publish(hub, folder)
    small(small_clip, seed=6).save_pretrained(folder)
    real = weights_source.hub_file

    def moves_on(*arguments, **options):
        found = real(*arguments, **options)
        publish(hub, folder)
        return found

    monkeypatch.setattr(weights_source, "hub_file", moves_on)
    assert score_alike(AFClip(weights=f"hf://{NAME}", pretrained=small_clip), model)


def test_what_the_hub_does_not_have_is_told(folder, hub, small_clip, monkeypatch):
    hub.commit("user/other", {"config.json": (folder / "config.json").read_bytes()})
    publish(hub, folder, "user/gated")
    hub.gated.add("user/gated")
    cases = {
        "user/none": "hf://user/none: the hub has no such repository",
        "user/other": r"hf://user/other: expected a repository of anomalib_zsad .*, but there is no model\.safetensors",
        "user/gated": "hf://user/gated: its owner grants access on request only",
    }
    for name, message in cases.items():
        with pytest.raises(FileNotFoundError, match=message):
            AFClip.from_pretrained(name, pretrained=small_clip)
    for name in ("hf://user/../../etc", "hf://../x", "hf://user/x@../../main", "hf://user/x@", "hf://user/x@-x"):
        with pytest.raises(ValueError, match=r"expected a (repository of the hub|branch, a tag or a commit)"):
            AFClip(weights=name, pretrained=small_clip)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client tries again and again
    set_of_the_hub(monkeypatch, "ENDPOINT", "http://127.0.0.1:9")
    set_of_the_hub(monkeypatch, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    with pytest.raises(FileNotFoundError, match=r"hf://user/none: http://127.0.0.1:9 cannot be reached"):
        AFClip.from_pretrained("user/none", pretrained=small_clip)


def test_a_push_that_breaks_off_changes_nothing(model, hub, small_clip):
    model.push_to_hub(NAME, token=hub.token)
    before = hub.resolve(NAME, "main")
    hub.fails = "/upload"
    with pytest.raises(OSError, match=r"hf://user/af-clip cannot be pushed: Error while uploading 'model.safetensors'"):
        small(small_clip, seed=6).push_to_hub(NAME, token=hub.token)
    assert hub.resolve(NAME, "main") == before
    with pytest.raises(ValueError, match="expected a repository of the hub"):
        model.push_to_hub("../x")


def test_a_changed_pair_on_the_hub_is_refused(folder, hub, small_clip):
    tensors, metadata = load_adapter(folder / "model.safetensors")
    record = {**json.loads(metadata["record"]), "trained_on": []}
    save_adapter(folder / "model.safetensors", tensors, {**metadata, "record": json.dumps(record)})
    publish(hub, folder)
    with pytest.raises(
        ValueError, match=r"config\.json: expected the record of model\.safetensors .* trained_on differ"
    ):
        AFClip(weights=f"hf://{NAME}", pretrained=small_clip)
