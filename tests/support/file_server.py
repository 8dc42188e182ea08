"""A web server on this machine: files by path, as a plain one and as a hub of Hugging Face answer."""

import hashlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import file_download, hf_api, utils  # noqa: F401  # they load all modules whose constants are set

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FileServer(ThreadingHTTPServer):
    """Answers with `files`.

    `requests` has the path of every request. `announced` holds what a file's SHA-256 is said to be, by path;
    `missing_bytes` of each file are announced and not sent.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files: dict[str, bytes] = {}
        self.announced: dict[str, str] = {}
        self.missing_bytes = 0
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: FileServer

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def _answer(self, body: bool) -> None:
        self.server.requests.append(self.path)
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            digest = self.server.announced.get(self.path, hashlib.sha256(content).hexdigest())
            self.send_header("ETag", f'"{digest}"')
        content = content or b""
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[: len(content) - self.server.missing_bytes])


@contextmanager
def file_server() -> Iterator[FileServer]:
    """Run a server for a block."""
    with FileServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def answer_for_the_hub(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a server answer in the hub's place, whose cache is in a folder."""
    set_of_the_hub(monkeypatch, "ENDPOINT", url)
    set_of_the_hub(monkeypatch, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    set_of_the_hub(monkeypatch, "HF_HUB_CACHE", str(cache))
    set_of_the_hub(monkeypatch, "HF_HUB_OFFLINE", False)


def set_of_the_hub(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    """Set a constant of huggingface_hub: before 1.0 its modules import some of them by name."""
    modules = [module for key, module in list(sys.modules.items()) if key.startswith("huggingface_hub.")]
    for module in modules:
        if name in vars(module):
            monkeypatch.setattr(module, name, value)
    getattr(utils, "reset_sessions", lambda: None)()  # before 1.0 a session keeps whether it was made offline
