import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub.constants as hub_constants
import pytest
from open_clip.pretrained import _PRETRAINED

from anomalib_zsad.clip import digest, known_weights
from anomalib_zsad.clip.weights import how_to_fetch, locate, resolve, sha256_of, verify
from tests.support.file_server import answer_for_the_hub, file_server

REPO = "timm/vit_base_patch32_clip_224.openai"
SAFE = f"/{REPO}/resolve/main/open_clip_model.safetensors"
PICKLED = f"/{REPO}/resolve/main/open_clip_pytorch_model.bin"
OPENAI = (
    "https://openaipublic.azureedge.net/clip/models/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
)
CONTENT = b"weights" * 1000


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def web():
    with file_server() as server:
        yield server


@pytest.fixture
def server(web, monkeypatch, tmp_path):
    """A server that answers in the hub's place, an empty cache, an empty home."""
    answer_for_the_hub(web.url, tmp_path / "hub", monkeypatch)
    monkeypatch.setenv("ANOMALIB_ZSAD_HOME", str(tmp_path / "home"))
    # Older open_clips name the url alone.
    for name in ("ViT-B-32", "ViT-B-32-quickgelu"):
        monkeypatch.setitem(_PRETRAINED[name], "openai", {"url": f"{OPENAI}/ViT-B-32.pt", "hf_hub": f"{REPO}/"})
    return web


@pytest.fixture
def offline(server, monkeypatch):
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)


def publish(monkeypatch, server, content=CONTENT, announced=None):
    """Let open_clip know a tag that is published at a url only."""
    path = f"/models/{announced or sha256(content)}/ViT-B-32.pt"
    server.files[path] = content
    monkeypatch.setitem(_PRETRAINED["ViT-B-32"], "own", {"url": server.url + path, "hf_hub": ""})


def put(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_given_file_comes_first_and_needs_no_network(server, tmp_path):
    path = put(tmp_path / "mine.pt")
    assert resolve("anything", path) == path
    assert resolve("anything", str(path)) == path
    assert server.requests == []


@pytest.mark.parametrize("name", ["gone.safetensors", "folder/gone", Path("gone")])
def test_a_given_file_that_does_not_exist_is_named(server, name):
    with pytest.raises(FileNotFoundError, match=r"gone.*expected a file with weights or a tag of open_clip"):
        resolve("ViT-B-32", name)


@pytest.mark.parametrize("folder", ["ViT-B-32", "ViT-B-32-quickgelu"])
@pytest.mark.parametrize("name", ["openai.safetensors", "openai.bin"])
def test_the_home_comes_before_the_hub(server, tmp_path, folder, name):
    path = put(tmp_path / "home" / folder / name)
    server.files[SAFE] = b"other"
    assert resolve("ViT-B-32", "openai") == path
    assert resolve("ViT-B-32-quickgelu", "openai") == path
    assert server.requests == []


def test_the_home_may_hold_tags_that_open_clip_does_not_know(server, tmp_path):
    path = put(tmp_path / "home" / "ViT-B-32" / "ours.pt")
    assert resolve("ViT-B-32", "ours") == path


def test_the_place_of_the_urls_file_takes_only_that_file(server, tmp_path):
    path = put(tmp_path / "home" / "ViT-B-32" / "openai.pt")
    expected = OPENAI.rpartition("/")[2]
    with pytest.raises(ValueError, match=f"openai.pt: expected SHA-256 {expected}, got {sha256(CONTENT)}"):
        resolve("ViT-B-32", "openai")
    assert resolve("ViT-B-32", path) == path


def test_the_hub_is_asked_once(server, monkeypatch):
    server.files[SAFE] = CONTENT
    path = resolve("ViT-B-32", "openai")
    assert path.read_bytes() == CONTENT
    server.requests.clear()
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    assert resolve("ViT-B-32-quickgelu", "openai") == path
    assert server.requests == []


def test_the_hubs_older_file_is_taken_where_there_is_no_safetensors(server):
    server.files[PICKLED] = CONTENT
    assert resolve("ViT-B-32", "openai").name == "open_clip_pytorch_model.bin"


def test_a_damaged_file_in_the_hubs_cache_is_refused(server):
    server.files[SAFE] = CONTENT
    server.announced[SAFE] = sha256(b"what was published")
    with pytest.raises(ValueError, match=f"expected SHA-256 {sha256(b'what was published')}, got {sha256(CONTENT)}"):
        resolve("ViT-B-32", "openai")


def test_a_hub_without_the_file_and_a_url_that_fails_are_told(server, monkeypatch):
    config = {"url": f"{server.url}/{sha256(CONTENT)}/a.pt", "hf_hub": "timm/none/"}
    monkeypatch.setitem(_PRETRAINED["ViT-B-32"], "own", config)
    with pytest.raises(FileNotFoundError, match=r"hub: none of open_clip_model.*url: HTTP Error 404.*fetch open_clip"):
        resolve("ViT-B-32", "own")


def test_a_url_is_downloaded_checked_and_recorded(server, monkeypatch, tmp_path):
    publish(monkeypatch, server)
    path = resolve("ViT-B-32", "own")
    assert path == tmp_path / "home" / "ViT-B-32" / "own.pt"
    assert path.read_bytes() == CONTENT
    assert f"{sha256(CONTENT)}  own.pt\n" in (path.parent / "own.pt.sha256").read_text()
    server.requests.clear()
    assert resolve("ViT-B-32", "own") == path
    assert server.requests == []


def test_a_url_is_used_where_the_hub_has_nothing(server, monkeypatch):
    publish(monkeypatch, server)
    monkeypatch.setitem(_PRETRAINED["ViT-B-32"]["own"], "hf_hub", "timm/none/")
    assert resolve("ViT-B-32", "own").read_bytes() == CONTENT


def test_a_url_without_a_digest_is_never_used(server, monkeypatch):
    server.files["/clip.pt"] = CONTENT
    monkeypatch.setitem(_PRETRAINED["ViT-B-32"], "own", {"url": f"{server.url}/clip.pt", "hf_hub": "timm/none/"})
    with pytest.raises(FileNotFoundError):
        resolve("ViT-B-32", "own")
    assert "/clip.pt" not in server.requests


def test_a_wrong_file_from_a_url_is_not_kept(server, monkeypatch, tmp_path):
    publish(monkeypatch, server, announced=sha256(b"other"))
    with pytest.raises(ValueError, match=f"expected SHA-256 {sha256(b'other')}, got {sha256(CONTENT)}"):
        resolve("ViT-B-32", "own")
    assert list((tmp_path / "home" / "ViT-B-32").iterdir()) == []


def test_a_broken_connection_leaves_nothing_behind(server, monkeypatch, tmp_path):
    publish(monkeypatch, server)
    server.missing_bytes = 1
    with pytest.raises(FileNotFoundError, match=f"broke off after {len(CONTENT) - 1} of {len(CONTENT)} bytes"):
        resolve("ViT-B-32", "own")
    assert list((tmp_path / "home" / "ViT-B-32").iterdir()) == []


def test_open_clips_short_digests_count_too(server, monkeypatch):
    path = f"/releases/vit_b_32-{sha256(CONTENT)[:8]}.pt"
    server.files[path] = CONTENT
    monkeypatch.setitem(_PRETRAINED["ViT-B-32"], "own", {"url": server.url + path, "hf_hub": ""})
    assert resolve("ViT-B-32", "own").read_bytes() == CONTENT


def test_offline_says_what_to_fetch_and_where_to_put_it(offline, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        resolve("ViT-B-32", "openai")
    sentence = str(caught.value)
    assert "HF_HUB_OFFLINE is set" in sentence
    assert f"open_clip_model.safetensors of the hub's repository {REPO}" in sentence
    assert str(tmp_path / "home" / "ViT-B-32" / "openai.safetensors") in sentence
    assert "/ViT-B-32.pt" in sentence
    assert str(tmp_path / "home" / "ViT-B-32" / "openai.pt") in sentence
    assert "\n" not in sentence


def test_files_put_where_the_sentence_says_are_found(offline, tmp_path):
    place = how_to_fetch("ViT-B-32", "laion2b_s34b_b79k").rpartition(" ")[2]
    put(Path(place))
    assert resolve("ViT-B-32", "laion2b_s34b_b79k") == Path(place)


def test_offline_downloads_nothing_from_a_url_either(offline, server, monkeypatch):
    publish(monkeypatch, server)
    with pytest.raises(FileNotFoundError):
        resolve("ViT-B-32", "own")
    assert server.requests == []


def test_unknown_names_are_told(server):
    with pytest.raises(ValueError, match=r"pretrained='openia' is not a tag of ViT-L-14-336: open_clip has openai"):
        resolve("ViT-L-14-336", "openia")
    with pytest.raises(ValueError, match=r"backbone 'ViT-B-33' is not a model of open_clip; did you mean ViT-B-32"):
        resolve("ViT-B-33", "openai")
    assert server.requests == []


def test_without_the_variable_the_home_is_in_the_users_cache(server, monkeypatch, tmp_path):
    monkeypatch.delenv("ANOMALIB_ZSAD_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    path = put(tmp_path / ".cache" / "anomalib_zsad" / "ViT-B-32" / "openai.safetensors")
    assert resolve("ViT-B-32", "openai") == path


def test_locate_touches_no_network(server):
    server.files[SAFE] = CONTENT
    assert locate("ViT-B-32", "openai") is None
    assert server.requests == []


def count_hashes(monkeypatch):
    hashed = []
    real = digest._hash
    monkeypatch.setattr(digest, "_hash", lambda path, stamp: hashed.append(path) or real(path, stamp))
    return hashed


def test_a_digest_is_computed_once_and_anew_after_a_change(tmp_path, monkeypatch):
    path = put(tmp_path / "clip.pt")
    hashed = count_hashes(monkeypatch)
    assert sha256_of(path) == sha256_of(path) == sha256(CONTENT)
    assert hashed == [path]
    time.sleep(0.01)  # a clock tick, so that the time of the change differs
    path.write_bytes(CONTENT[::-1])
    assert sha256_of(path) == sha256(CONTENT[::-1])
    path.write_bytes(b"short")
    assert sha256_of(path) == sha256(b"short")


def test_a_digest_that_came_with_the_file_must_match(tmp_path, monkeypatch):
    path = put(tmp_path / "clip.pt")
    record = tmp_path / "clip.pt.sha256"
    record.write_text(f"{sha256(CONTENT)}  clip.pt\n")
    hashed = count_hashes(monkeypatch)
    assert sha256_of(path) == sha256_of(path) == sha256(CONTENT)
    assert hashed == [path]
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=f"clip.pt: expected SHA-256 {sha256(CONTENT)}, got {sha256(b'damaged')}"):
        sha256_of(path)


def test_records_are_what_sha256sum_reads(tmp_path):
    path = put(tmp_path / "clip.pt")
    sha256_of(path)
    lines = (tmp_path / "clip.pt.sha256").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [f"{sha256(CONTENT)}  clip.pt"]


def test_a_record_that_is_none_is_named(tmp_path):
    path = put(tmp_path / "clip.pt")
    (tmp_path / "clip.pt.sha256").write_text("not found")
    with pytest.raises(ValueError, match=r"clip\.pt\.sha256: expected a SHA-256 .* got 'not'"):
        sha256_of(path)


def test_a_folder_without_leave_to_write_is_no_obstacle(tmp_path, monkeypatch):
    path = put(tmp_path / "clip.pt")

    def refuse(*args, **kwargs):
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    assert sha256_of(path) == sha256(CONTENT)
    assert list(tmp_path.iterdir()) == [path]


def test_verify_reads_the_file_and_not_the_record(server, tmp_path):
    path = put(tmp_path / "home" / "ViT-B-32" / "ours.pt")
    located = locate("ViT-B-32", "ours")
    assert verify(located) == (sha256(CONTENT), False)
    sha256_of(path)
    assert verify(located) == (sha256(CONTENT), True)
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=f"expected SHA-256 {sha256(CONTENT)}, got {sha256(b'damaged')}"):
        verify(located)


def test_the_environment_chooses_endpoint_and_offline(server, tmp_path):
    server.files["/laion/CLIP-ViT-B-32-laion2B-s34B-b79K/resolve/main/open_clip_model.safetensors"] = CONTENT
    script = """if True:
        from huggingface_hub import constants
        from anomalib_zsad.clip.weights import resolve
        try:
            resolve("ViT-B-32", "laion2b_s34b_b79k")
        except FileNotFoundError as error:
            print("HF_HUB_OFFLINE is set" in str(error))
        constants.HF_HUB_OFFLINE = False
        print(resolve("ViT-B-32", "laion2b_s34b_b79k"))"""
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    refused, path = run.stdout.split()
    assert refused == "True"
    assert Path(path).read_bytes() == CONTENT
    assert Path(path).is_relative_to(tmp_path / "hf")


def test_the_same_weights_go_by_two_names():
    assert known_weights.same_weights("ViT-L-14-336") == ("ViT-L-14-336", "ViT-L-14-336-quickgelu")
    assert known_weights.same_weights("ViT-L-14-336-quickgelu") == ("ViT-L-14-336-quickgelu", "ViT-L-14-336")


def test_the_home_of_a_user_that_is_not_known_is_told(monkeypatch):
    monkeypatch.setenv("ANOMALIB_ZSAD_HOME", "~nobody-of-this-name/weights")
    with pytest.raises(ValueError, match="ANOMALIB_ZSAD_HOME must be a path, got ~nobody-of-this-name/weights"):
        locate("ViT-L-14-336", "openai")
