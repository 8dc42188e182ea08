"""Weights that are listed, fetched beforehand and carried to a machine without a network."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from open_clip.pretrained import _PRETRAINED
from safetensors.torch import save
from torch import nn

from anomalib_zsad import AFClip
from anomalib_zsad.cli import main
from anomalib_zsad.clip.backbone_inventory import Held
from anomalib_zsad.clip.fetching import git_blob_id
from anomalib_zsad.clip.weights import locate
from anomalib_zsad.models.af_clip.publication import PUBLICATIONS
from anomalib_zsad.models.af_clip.released import _OWN_NAMES
from anomalib_zsad.models.inventory import inventory
from tests.support.contract import images
from tests.support.file_server import set_of_the_hub
from tests.support.hub_server import HubServer, hub_server
from tests.support.small_clip import IMAGE_SIZE

NAME = "hf://user/af-clip"
CLIP = "timm/vit_base_patch32_clip_224.openai"


@pytest.fixture(scope="module")
def model(small_clip: Path) -> AFClip:
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, seed=5).eval()
    model.trained_on = ["VisA/candle"]
    return model


@pytest.fixture
def hub(model, monkeypatch, tmp_path: Path) -> Iterator[HubServer]:
    """A hub with an adapter and a CLIP; the authors' files of released/visa lie in the home."""
    model.save_pretrained(tmp_path / "saved")
    authors = tmp_path / "home" / "af_clip"
    authors.mkdir(parents=True)
    state = model.model.state_dict()
    torch.save(nn.Parameter(state["prompts.vectors"]), authors / "visa_prompt.pt")
    torch.save({theirs: state[ours] for theirs, ours in _OWN_NAMES.items()}, authors / "visa_adaptor.pt")
    blobs = {f"weight/{path.name}": git_blob_id(path) for path in sorted(authors.iterdir(), reverse=True)}
    monkeypatch.setitem(PUBLICATIONS, "released/visa", replace(PUBLICATIONS["released/visa"], blobs=blobs))
    for name in ("ViT-B-32", "ViT-B-32-quickgelu"):  # older open_clips name the url alone
        monkeypatch.setitem(_PRETRAINED[name], "openai", {"url": "", "hf_hub": f"{CLIP}/"})
    with hub_server(monkeypatch, tmp_path) as server:
        server.commit("user/af-clip", {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()})
        server.commit(CLIP, {"open_clip_model.safetensors": save({"weight": torch.ones(1000)})})
        yield server


def held() -> dict[str, Held]:
    """By name, where it is in several places the one that is used."""
    return {each.name: each for each in reversed(inventory())}


def states() -> dict[str, str]:
    return {name: each.state for name, each in held().items()}


@torch.no_grad()
def score_alike(one: AFClip, other: AFClip) -> bool:
    return torch.equal(one.model(images()).anomaly_map, other.model(images()).anomaly_map)


def test_what_is_fetched_to_a_folder_is_found_there_without_a_network(
    hub, model, small_clip, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "carried"
    assert main(["weights", "get", "ViT-B-32", "released/visa", NAME, "--to", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "set ANOMALIB_ZSAD_HOME to it" in told

    elsewhere = tmp_path / "elsewhere" / "folder"
    shutil.copytree(folder, elsewhere)  # any copy of plain files
    assert not [path for path in folder.rglob("*") if path.is_symlink()]
    hub.requests.clear()
    set_of_the_hub(monkeypatch, "HF_HUB_OFFLINE", True)
    set_of_the_hub(monkeypatch, "HF_HUB_CACHE", str(tmp_path / "no hub"))
    monkeypatch.setenv("ANOMALIB_ZSAD_HOME", str(elsewhere))
    complete = {name for name, state in states().items() if state == "complete"}
    assert complete == {"ViT-B-32:openai", "zsad-tiny", "released/visa", NAME}
    assert states()["ViT-L-14-336:openai"] == states()["released/mvtec"] == "absent"
    assert locate("ViT-B-32", "openai").path.is_relative_to(elsewhere)
    for name in (NAME, "released/visa"):
        assert score_alike(AFClip(weights=name, pretrained=small_clip, image_size=IMAGE_SIZE).eval(), model)
    AFClip(weights="released/visa", pretrained=small_clip, image_size=IMAGE_SIZE).save_pretrained(tmp_path / "shared")
    assert "Built of released/visa (licence: none stated)" in (tmp_path / "shared" / "README.md").read_text()
    assert score_alike(AFClip.from_pretrained("user/af-clip", pretrained=small_clip), model)
    assert score_alike(AFClip.from_pretrained(elsewhere / "hub" / "user--af-clip", pretrained=small_clip), model)
    assert hub.requests == []


def test_a_tokenizer_of_the_hub_comes_with_its_backbone(hub, tmp_path, capsys):
    repo, files = "timm/ViT-B-16-SigLIP", {"tokenizer.json": b"{}", "tokenizer_config.json": b"[]"}
    hub.commit(repo, {"open_clip_model.safetensors": save({"weight": torch.ones(10)}), **files})
    assert main(["weights", "get", "ViT-B-16-SigLIP:webli", "--to", str(tmp_path / "carried")]) == 0
    folder = tmp_path / "carried" / "ViT-B-16-SigLIP"
    assert f"ViT-B-16-SigLIP:webli: {folder / 'tokenizer'} (" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in (folder / "tokenizer").iterdir()} == files
    assert (folder / "webli.safetensors").is_file()


def test_what_is_fetched_is_not_fetched_again(hub, tmp_path, capsys):
    assert main(["weights", "get", "ViT-B-32:openai", NAME, f"{NAME}@main"]) == 0
    hub.requests.clear()
    assert main(["weights", "get", "ViT-B-32", NAME, "--to", str(tmp_path / "carried")]) == 0
    assert not [request for request in hub.requests if request.startswith("GET")]
    carried = tmp_path / "carried" / "ViT-B-32" / "openai.safetensors"
    before = carried.stat().st_mtime_ns
    assert main(["weights", "get", "ViT-B-32", "--to", str(tmp_path / "carried")]) == 0
    assert carried.stat().st_mtime_ns == before
    assert states()[NAME] == states()["ViT-B-32:openai"] == "complete"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-B-33", "backbone 'ViT-B-33' is not a model of open_clip; did you mean ViT-B-32"),
        ("ViT-B-32:nothing", "pretrained='nothing' is not a tag of ViT-B-32: open_clip has"),
        ("ViT-B-32:../x.pt", "expected a tag of open_clip after the colon|expected BACKBONE"),
        ("../x", "expected BACKBONE[:TAG], released/<name> or hf://user/name[@revision], got '../x'"),
        ("user/af-clip", "expected BACKBONE[:TAG], released/<name> or hf://user/name[@revision], got 'user/af-clip'"),
        ("released/x", "released/mvtec, released/visa, got 'released/x'"),
        ("hf://user/x@../y", "expected a branch, a tag or a commit"),
    ],
)
def test_a_wrong_name_comes_before_the_first_download(hub, tmp_path, capsys, name, message):
    assert main(["weights", "get", NAME, name, "--to", str(tmp_path / "carried")]) == 2
    told = capsys.readouterr().err
    assert any(each in told for each in message.split("|")), told
    assert hub.requests == []
    assert not (tmp_path / "carried").exists()


def test_damage_is_seen_and_told(hub, tmp_path, capsys):
    assert main(["weights", "get", "ViT-B-32", NAME, "--to", str(tmp_path / "home")]) == 0
    assert main(["weights", "list"]) == 0
    printed = capsys.readouterr().out
    assert "released/visa" in printed
    assert "converted on first use" in printed
    assert str(tmp_path / "home" / "ViT-B-32" / "openai.safetensors") in printed
    home = tmp_path / "home"
    assert held()["released/visa"].size == sum(path.stat().st_size for path in (home / "af_clip").iterdir())

    clip, prompt = home / "ViT-B-32" / "openai.safetensors", home / "af_clip" / "visa_prompt.pt"
    whole, published = clip.read_bytes(), prompt.read_bytes()
    clip.write_bytes(whole[:-1])
    prompt.unlink()
    (home / "hub" / "user--af-clip" / "config.json").unlink()
    assert {name for name, state in states().items() if state == "partial"} == {
        "ViT-B-32:openai",
        "released/visa",
        NAME,
    }
    assert "visa_prompt.pt is missing" in held()["released/visa"].note

    clip.write_bytes(whole[:-1] + b"\1")
    prompt.write_bytes(published + b"\0")
    (home / "hub" / "user--af-clip" / "config.json").write_text("{}")
    (home / "mine.safetensors").write_bytes(whole)
    assert {name for name, state in states().items() if state == "wrong content"} == {
        "ViT-B-32:openai",
        "released/visa",
        NAME,
        str(home / "mine.safetensors"),
    }
    assert main(["weights", "list"]) == 1


def test_the_hubs_cache_is_looked_through(hub, tmp_path, model):
    other = hub.commit("user/of-others", {"config.json": b'{"architectures": ["X"]}', "model.safetensors": b""})
    assert main(["weights", "get", NAME]) == 0
    from huggingface_hub import hf_hub_download

    hf_hub_download("user/of-others", "config.json", revision=other)
    hf_hub_download("user/of-others", "model.safetensors", revision=other)
    old = held()[NAME]
    assert (old.use, old.state) == ("AFClip", "complete")
    weights = (old.path / "model.safetensors").resolve()
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert states()[NAME] == "wrong content"
    (old.path / "model.safetensors").unlink()
    assert states()[NAME] == "partial"
    assert not [name for name in states() if "of-others" in name]
    broken_off = Path(constants.HF_HUB_CACHE) / f"models--{CLIP.replace('/', '--')}" / "blobs" / "ab.12.incomplete"
    broken_off.parent.mkdir(parents=True)
    broken_off.write_bytes(b"1234")
    assert (held()["ViT-B-32:openai"].state, held()["ViT-B-32:openai"].size) == ("partial", 4)
    model.save_weights(tmp_path / "home" / "mine.safetensors")
    assert held()[str(tmp_path / "home" / "mine.safetensors")].use == "AFClip"
