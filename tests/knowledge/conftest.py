import ssl
from collections.abc import Iterator

import pytest

from tests.knowledge.ollama_server import OllamaServer, running

_CONTEXT = ssl.create_default_context()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OllamaServer]:
    """Ollama's protocol at $OLLAMA_HOST, past any proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    # Every client reads all certificates, which takes a tenth of a second.
    monkeypatch.setattr("httpx._transports.default.create_ssl_context", lambda **_: _CONTEXT)
    with running() as started:
        monkeypatch.setenv("OLLAMA_HOST", started.url)
        yield started
