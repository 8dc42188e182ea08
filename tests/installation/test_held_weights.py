import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub.constants as hub_constants
import pytest
import torch
from safetensors.torch import save_file

from anomalib_zsad.clip.known_weights import Publication, size_there
from anomalib_zsad.installation.findings import Finding
from anomalib_zsad.installation.held_weights import DEFAULT, findings_of
from anomalib_zsad.models.inventory import inventory

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


def held(name: str) -> Finding:
    return next(finding for finding in findings_of(inventory()) if finding.name == name)


def test_weights_that_are_here_or_cut_short(home: Path) -> None:
    save_file({"a": torch.zeros(1000)}, home / PLACE)
    assert held(DEFAULT).state == "ok"
    assert held(DEFAULT).text.startswith(f"CLIP: 0.0 MB at {home / PLACE}")
    (home / PLACE).write_bytes((home / PLACE).read_bytes()[:2000])
    assert held(DEFAULT).state == "fault"
    assert held(DEFAULT).text.startswith("CLIP: partial, delete it and fetch it again: ")


def test_without_weights_and_network_it_says_what_to_fetch_and_where_to_put_it(home: Path) -> None:
    assert held(DEFAULT).state == "fault"
    assert "HF_HUB_OFFLINE is set" in held(DEFAULT).text
    assert f"put it at {(home / PLACE).with_suffix('')}" in held(DEFAULT).text  # its suffix depends on open_clip
    assert held("released/visa").state == "absent"
    assert held("zsad-tiny").state == "ok"


def test_with_a_network_it_says_what_the_first_use_brings(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
    publication = Publication("", (), f"{server}/there.pt", "0" * 64)
    assert size_there(publication) == 1234567890
    monkeypatch.setattr("anomalib_zsad.installation.held_weights.publication_of", lambda *_: publication)
    assert held(DEFAULT) == Finding(DEFAULT, "CLIP: not here, the first use downloads 1.2 GB", "absent")
    with pytest.raises(ConnectionError, match="url: Not Found"):
        size_there(Publication("", (), f"{server}/gone.pt", "0" * 64))
    monkeypatch.setattr(hub_constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{filename}")
    with pytest.raises(ConnectionError, match="hub: "):
        size_there(Publication("user/name", ("file.bin",), "", ""))
