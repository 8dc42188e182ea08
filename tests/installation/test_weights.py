import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub.constants as hub_constants
import pytest
import torch
from safetensors.torch import save_file

from anomalib_zsad import AFClip
from anomalib_zsad.clip.known_weights import Publication, size_there
from anomalib_zsad.installation.weights import clip_weights, is_cut_short, published_adapters
from anomalib_zsad.models.parts.adapter_file import save_adapter
from anomalib_zsad.models.parts.record import new_record, to_metadata

PLACE = Path("ViT-L-14-336", "openai.safetensors")


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty home, an empty cache, no network."""
    monkeypatch.setenv("ANOMALIB_ZSAD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "home" / PLACE).parent.mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture
def server() -> Iterator[str]:
    """One that has a file of 1234567890 bytes, and does not send it."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if self.path == "/there.pt" else 404)
            self.send_header("Content-Length", "1234567890")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_weights_that_are_here_or_cut_short(home: Path) -> None:
    save_file({"a": torch.zeros(1000)}, home / PLACE)
    found = clip_weights()
    assert found.state == "ok"
    assert f"0.0 MB at {home / PLACE}" in found.text
    (home / PLACE).write_bytes((home / PLACE).read_bytes()[:2000])
    found = clip_weights()
    assert found.state == "fault"
    assert "the file is cut short" in found.text


def test_an_archive_is_told_by_its_end(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[:-100])
    (tmp_path / "old.pt").write_bytes(b"\x80\x02 an old pickle has no table")
    assert [is_cut_short(tmp_path / f"{name}.pt") for name in ("whole", "cut", "old")] == [False, True, False]


def test_without_weights_and_network_it_says_what_to_fetch_and_where_to_put_it(home: Path) -> None:
    found = clip_weights()
    assert found.state == "fault"
    assert "HF_HUB_OFFLINE is set" in found.text
    assert f"put it at {home / PLACE}" in found.text


def test_with_a_network_it_says_what_the_first_use_brings(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
    publication = Publication("", (), f"{server}/there.pt", "0" * 64)
    assert size_there(publication) == 1234567890
    monkeypatch.setattr("anomalib_zsad.installation.weights.publication_of", lambda *_: publication)
    found = clip_weights()
    assert (found.state, found.text) == ("absent", "not here: the first use downloads 1.2 GB")
    with pytest.raises(ConnectionError, match="url: Not Found"):
        size_there(Publication("", (), f"{server}/gone.pt", "0" * 64))
    monkeypatch.setattr(hub_constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{filename}")
    with pytest.raises(ConnectionError, match="hub: "):
        size_there(Publication("user/name", ("file.bin",), "", ""))


def test_published_adapters_that_are_here(home: Path) -> None:
    assert {each.state for each in published_adapters()} == {"absent"}
    visa = AFClip.published["released/visa"].adapter("released/visa")
    save_adapter(visa, {"a": torch.zeros(3)}, to_metadata(new_record("AFClip")))
    mvtec = AFClip.published["released/mvtec"].adapter("released/mvtec")
    mvtec.write_bytes(b"damaged")
    found = {each.name: each for each in published_adapters()}
    assert found["released/visa"].state == "ok"
    assert str(visa) in found["released/visa"].text
    assert found["released/mvtec"].state == "fault"
    assert str(mvtec) in found["released/mvtec"].text
