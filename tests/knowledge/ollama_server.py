"""A server on this machine that speaks Ollama's HTTP protocol, with answers that a test chooses."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Handler", dict], None]
DIGEST = "0123456789ab" * 5


class OllamaServer(ThreadingHTTPServer):
    """Has models with their abilities, does what `behaviours` say one after the other, then answers well."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models: dict[str, list[str] | None] = {
            "llama3.1": ["completion"],
            "llava-llama3": ["completion", "vision"],
        }
        self.behaviours: list[Behaviour] = []
        self.chats: list[dict] = []
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that hang up are part of the tests


class Handler(BaseHTTPRequestHandler):
    server: OllamaServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for the client's acknowledgement of its headers

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        listed = [{"model": f"{name}:latest", "digest": DIGEST} for name in self.server.models]
        self.send(200, {"models": listed})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["model"] not in self.server.models:
            self.send(404, {"error": f"model '{body['model']}' not found"})
        elif self.path == "/api/show":
            abilities = self.server.models[body["model"]]
            known = {} if abilities is None else {"capabilities": abilities}
            self.send(200, {"model_info": {"general.architecture": "llama"}, "details": {}, **known})
        else:
            self.server.chats.append(body)
            behave = self.server.behaviours.pop(0) if self.server.behaviours else answer_well
            behave(self, body)

    def send(self, status: int, content: Any) -> None:
        self.send_bytes(status, json.dumps(content).encode())

    def send_bytes(self, status: int, content: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def send_lines(self, parts: list[dict]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in parts:
            line = json.dumps(part).encode() + b"\n"
            self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")

    def hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True


@contextlib.contextmanager
def running() -> Iterator[OllamaServer]:
    server = OllamaServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


def say(content: str, thinking: str = "", done_reason: str = "stop") -> Behaviour:
    """Answer with these texts: in one piece, or in two where a stream is asked for."""

    def behave(handler: Handler, body: dict) -> None:
        def part(text: str, thought: str, **more: Any) -> dict:
            message = {"role": "assistant", "content": text, **({"thinking": thought} if thought else {})}
            return {"model": body["model"], "created_at": "2026-01-01T00:00:00Z", "message": message, **more}

        if body["stream"]:
            half = len(content) // 2
            handler.send_lines(
                [
                    part(content[:half], thinking, done=False),
                    part(content[half:], "", done=True, done_reason=done_reason),
                ]
            )
            handler.wfile.write(b"0\r\n\r\n")
        else:
            handler.send(200, part(content, thinking, done=True, done_reason=done_reason))

    return behave


def fail(status: int = 500, error: str = "out of memory") -> Behaviour:
    return lambda handler, body: handler.send(status, {"error": error})


def send_raw(content: bytes, status: int = 200) -> Behaviour:
    return lambda handler, body: handler.send_bytes(status, content)


def hang(handler: Handler, body: dict) -> None:
    """Answer nothing until the client has given up."""
    handler.server.stopping.wait(5)


def drip(handler: Handler, body: dict) -> None:
    """Send a byte now and then, sooner than the client gives up."""
    handler.send_bytes(200, b"{", length=1000)
    with contextlib.suppress(OSError):
        while not handler.server.stopping.wait(0.1):
            handler.wfile.write(b" ")
    handler.close_connection = True


def flood(handler: Handler, body: dict) -> None:
    """Send blanks as long as the client takes them."""
    handler.send_bytes(200, b"{", length=1 << 40)
    with contextlib.suppress(OSError):
        while not handler.server.stopping.is_set():
            handler.wfile.write(b" " * (1 << 20))
    handler.close_connection = True


def cut(handler: Handler, body: dict) -> None:
    """Break off in the middle of the answer."""
    part = {"model": body["model"], "message": {"role": "assistant", "content": '{"desc'}, "done": False}
    if body["stream"]:
        handler.send_lines([part])
    else:
        handler.send_bytes(200, json.dumps(part).encode()[:-5], length=1000)
    handler.hang_up()


def answer_well(handler: Handler, body: dict) -> None:
    """Answer in the form that was asked for, never the same twice."""
    number = len(handler.server.chats)
    properties = body["format"]["properties"] if isinstance(body["format"], dict) else {}
    if "anomaly_visible" in properties or "images" in body["messages"][-1]:
        spoken = {"anomaly_visible": True, "descriptions": [f"A {_WORDS[number % 10]} crack runs along side {number}."]}
    else:
        texts = [f"A {word} scratch of kind {number} crosses the {word} side." for word in _WORDS[:5]]
        spoken = {"descriptions": texts, "background": "A clean thing on a table."}
    say(json.dumps(spoken))(handler, body)


_WORDS = ("red", "long", "broad", "curved", "dull", "bright", "jagged", "shallow", "double", "dark")
