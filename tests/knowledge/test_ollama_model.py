import builtins
import re
import sys

import pytest

from anomalib_zsad.knowledge.answers import MalformedAnswerError
from anomalib_zsad.knowledge.ollama_model import (
    BrokenConnectionError,
    ModelMissingError,
    OllamaModel,
    RefusedError,
    SlowAnswerError,
    UnreachableError,
)
from tests.knowledge.ollama_server import DIGEST, cut, drip, fail, flood, hang, say, send_raw

MESSAGES = [{"role": "user", "content": "What does a broken cup look like?"}]
OPTIONS = {"temperature": 0.0, "seed": 3}
SCHEMA = {"type": "object", "properties": {"descriptions": {"type": "array"}}}

streams = pytest.mark.parametrize("stream", [False, True])


def one_line(error):
    return str(error.value).count("\n") == 0 and len(str(error.value)) < 300


@streams
def test_asks_and_reads_the_reply(server, stream):
    server.behaviours = [say("the answer", thinking="a thought")]
    reply = OllamaModel("llama3.1", stream=stream).ask(MESSAGES, OPTIONS, SCHEMA)
    assert (reply.content, reply.thinking, reply.complete) == ("the answer", "a thought", True)
    (asked,) = server.chats
    assert asked["stream"] is stream
    assert asked["format"] == SCHEMA
    assert asked["options"] == OPTIONS
    assert asked["messages"] == MESSAGES


@streams
def test_a_reply_that_was_too_long_is_incomplete(server, stream):
    server.behaviours = [say("the ans", done_reason="length")]
    assert not OllamaModel("llama3.1", stream=stream).ask(MESSAGES, OPTIONS, SCHEMA).complete


def test_without_a_schema_any_json_is_asked_for(server):
    OllamaModel("llama3.1").ask(MESSAGES, OPTIONS, None)
    assert server.chats[0]["format"] == "json"


def test_the_digest_is_told(server):
    assert OllamaModel("llama3.1").check() == DIGEST
    assert OllamaModel("llava-llama3").check(vision=True) == DIGEST


def test_the_given_host_counts_before_the_environment(server, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    assert OllamaModel("llama3.1", host=server.url).check() == DIGEST
    with pytest.raises(UnreachableError):
        OllamaModel("llama3.1").check()


def test_a_model_that_was_not_pulled(server):
    for act in (OllamaModel.check, lambda model: model.ask(MESSAGES, OPTIONS, None)):
        with pytest.raises(ModelMissingError, match="ollama pull phi9") as caught:
            act(OllamaModel("phi9"))
        assert server.url in str(caught.value)
        assert one_line(caught)


def test_a_model_without_vision(server):
    with pytest.raises(ValueError, match=r"llama3\.1 cannot see images.*completion.*--vqa") as caught:
        OllamaModel("llama3.1").check(vision=True)
    assert one_line(caught)


def test_a_server_that_does_not_tell_abilities_is_believed(server):
    server.models["llava-llama3"] = None
    assert OllamaModel("llava-llama3").check(vision=True) == DIGEST


@streams
@pytest.mark.parametrize("host", ["127.0.0.1:1", "http://127.0.0.1:1"])
def test_no_server(host, stream):
    for act in (OllamaModel.check, lambda model: model.ask(MESSAGES, OPTIONS, None)):
        with pytest.raises(UnreachableError, match=f"cannot be reached at {re.escape(host)}.*ollama serve") as caught:
            act(OllamaModel("llama3.1", host=host, stream=stream))
        assert one_line(caught)


@pytest.mark.parametrize("host", ["no port:here", "http://[", "ftp://127.0.0.1"])
def test_an_address_that_is_none(host):
    with pytest.raises(UnreachableError, match="cannot be reached at"):
        OllamaModel("llama3.1", host=host).check()


@streams
def test_no_answer_in_time(server, stream):
    server.behaviours = [hang]
    with pytest.raises(SlowAnswerError, match=r"within 0.2 s: pass --timeout") as caught:
        OllamaModel("llama3.1", timeout=0.2, stream=stream).ask(MESSAGES, OPTIONS, None)
    assert one_line(caught)


@streams
def test_an_answer_that_drips(server, stream):
    server.behaviours = [drip]
    with pytest.raises(SlowAnswerError, match=r"within 0.3 s: pass --timeout"):
        OllamaModel("llama3.1", timeout=0.3, stream=stream).ask(MESSAGES, OPTIONS, None)


@streams
def test_an_answer_without_end(server, stream):
    server.behaviours = [flood]
    with pytest.raises(MalformedAnswerError, match="longer than 16 MiB"):
        OllamaModel("llama3.1", stream=stream).ask(MESSAGES, OPTIONS, None)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("proxy", ["http://me:secret@127.0.0.1:1", "socks5://127.0.0.1:1"])
def test_no_proxy_leads_to_this_machine(server, monkeypatch, variable, proxy):
    monkeypatch.setenv(variable, proxy)
    assert OllamaModel("llama3.1").check() == DIGEST


def test_a_proxy_of_the_environment_leads_elsewhere(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@127.0.0.1:1")
    with pytest.raises(UnreachableError, match=r"at elsewhere\.test through the proxy http://\*\*\*@127\.0\.0\.1:1: "):
        OllamaModel("llama3.1", host="elsewhere.test").check()


def test_a_proxy_that_needs_a_package_names_it(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "socks5://me:secret@127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(OSError, match=r"socks5://\*\*\*@127\.0\.0\.1:1 .*pip install socksio; NO_PROXY"):
        OllamaModel("llama3.1", host="elsewhere.test")


def test_blanks_around_an_address_are_none_of_it(server, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", f" {server.url} ")
    assert OllamaModel("llama3.1").check() == DIGEST


def test_no_message_has_a_password():
    for host in ("http://me:secret@127.0.0.1:1", "me:secret@127.0.0.1:1"):
        with pytest.raises(UnreachableError, match=r"\*\*\*@127\.0\.0\.1:1") as caught:
            OllamaModel("llama3.1", host=host).check()
        assert "secret" not in str(caught.value)


@streams
def test_a_connection_that_breaks_off(server, stream):
    server.behaviours = [cut]
    with pytest.raises(BrokenConnectionError, match="broke off in the middle") as caught:
        OllamaModel("llama3.1", stream=stream).ask(MESSAGES, OPTIONS, None)
    assert one_line(caught)


@streams
def test_an_error_of_the_server(server, stream):
    server.behaviours = [fail(500, "CUDA\nerror")]
    with pytest.raises(RefusedError, match=r"llama3.1: CUDAerror \(500\)") as caught:
        OllamaModel("llama3.1", stream=stream).ask(MESSAGES, OPTIONS, None)
    assert one_line(caught)


@streams
@pytest.mark.parametrize("raw", [b"", b"<html>", b"[1]", b"null", b'{"message": 3}', b"\xff\xfe", b"[" * 9999])
def test_what_is_no_protocol(server, stream, raw):
    server.behaviours = [send_raw(raw)]
    with pytest.raises((MalformedAnswerError, BrokenConnectionError)) as caught:
        OllamaModel("llama3.1", stream=stream).ask(MESSAGES, OPTIONS, None)
    assert one_line(caught)


@streams
@pytest.mark.parametrize(
    "raw",
    [
        b"<!DOCTYPE HTML>\n<html><body>Not found</body></html>",
        b"404 page not found",
        b"",
        b'{"detail": "Not Found"}',
        b'{"error": {"message": "no such route"}}',
    ],
)
def test_an_error_of_a_server_that_is_not_ollama(server, stream, raw):
    server.behaviours = [send_raw(raw, 404)]
    with pytest.raises(RefusedError) as caught:
        OllamaModel("llama3.1", stream=stream).ask(MESSAGES, OPTIONS, None)
    assert str(caught.value) == f"what answers at {server.url} does not speak Ollama's protocol (404)"


def test_an_error_in_the_middle_of_a_stream(server):
    server.behaviours = [lambda handler, _: handler.send_lines([{"error": "out of memory"}])]
    with pytest.raises(RefusedError, match=r"reports an error of llama3\.1: out of memory"):
        OllamaModel("llama3.1", stream=True).ask(MESSAGES, OPTIONS, None)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_of_nothing(timeout):
    with pytest.raises(ValueError, match=f"timeout must be more than 0 seconds, got {timeout}"):
        OllamaModel("llama3.1", timeout=timeout)


def test_another_404_is_not_taken_for_a_missing_model(server):
    server.behaviours = [fail(404, "<html>page not found</html>")]
    with pytest.raises(RefusedError, match="404"):
        OllamaModel("llama3.1").ask(MESSAGES, OPTIONS, None)


def test_without_the_package(monkeypatch):
    load = builtins.__import__

    def refuse(name, *rest):
        if name == "ollama":
            raise ModuleNotFoundError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(OSError, match="pip install ollama"):
        OllamaModel("llama3.1")
