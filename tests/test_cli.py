import hashlib
import subprocess
import sys

import huggingface_hub.constants as hub_constants
import pytest
import torch

from anomalib_zsad.cli import main
from anomalib_zsad.models.parts.adapter_file import load_adapter


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """An empty home, an empty cache, no network."""
    monkeypatch.setenv("ANOMALIB_ZSAD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def released(tmp_path):
    keys = {f"attention.attn.to_{name}.weight": (64, 16) for name in "qkv"}
    keys |= {"attention.attn.to_out.0.weight": (16, 64), "attention.attn.to_out.0.bias": (16,)}
    keys |= {"attention.norm.weight": (16,), "attention.norm.bias": (16,)}
    torch.save(torch.randn(1, 12, 8), tmp_path / "p.pt")
    torch.save({key: torch.randn(shape) for key, shape in keys.items()}, tmp_path / "a.pt")
    return ["--prompt", str(tmp_path / "p.pt"), "--adaptor", str(tmp_path / "a.pt")]


def put(path, content=b"weights"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_convert_writes_an_adapter_file_and_says_so(released, tmp_path, capsys):
    out = tmp_path / "weights.safetensors"
    assert main(["convert", "af-clip", *released, "--out", str(out)]) == 0
    tensors, metadata = load_adapter(out)
    assert torch.equal(tensors["prompts.vectors"], torch.load(tmp_path / "p.pt"))
    assert metadata["method"] == "AFClip"
    assert metadata["prompt_sha256"] == hashlib.sha256((tmp_path / "p.pt").read_bytes()).hexdigest()
    told = capsys.readouterr().out
    assert f"{out}: 8 tensors, {sum(t.numel() for t in tensors.values())} parameters" in told
    assert hashlib.sha256(out.read_bytes()).hexdigest() in told


def test_an_error_is_one_line_and_exit_status_2(released, tmp_path, capsys):
    (tmp_path / "a.pt").write_bytes(b"PK nothing")
    out = tmp_path / "weights.safetensors"
    assert main(["convert", "af-clip", *released, "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("anomalib-zsad: ")
    assert "a.pt" in told
    assert told.count("\n") == 1
    assert not out.exists()


def test_where_names_the_file_and_its_source(tmp_path, capsys):
    path = put(tmp_path / "home" / "ViT-B-32" / "openai.safetensors")
    assert main(["weights", "where", "ViT-B-32"]) == 0
    assert capsys.readouterr().out == f"{path} (from the folder {tmp_path / 'home'})\n"
    assert main(["weights", "where", "ViT-B-32", str(put(tmp_path / "mine.pt"))]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'mine.pt'} (from the given file)\n"


def test_where_says_what_to_fetch(tmp_path, capsys):
    assert main(["weights", "where", "ViT-L-14-336"]) == 1
    told = capsys.readouterr().out
    assert "open_clip_model.safetensors" in told
    assert str(tmp_path / "home" / "ViT-L-14-336" / "openai.safetensors") in told


def test_verify_checks_the_digest(tmp_path, capsys):
    path = put(tmp_path / "home" / "ViT-B-32" / "openai.safetensors")
    digest = hashlib.sha256(b"weights").hexdigest()
    path.with_name("openai.safetensors.sha256").write_text(f"{digest}  openai.safetensors\n")
    assert main(["weights", "verify", "ViT-B-32", "openai"]) == 0
    assert capsys.readouterr().out == f"{digest}  {path}\nmatches what was published or recorded\n"
    path.write_bytes(b"damaged")
    assert main(["weights", "verify", "ViT-B-32", "openai"]) == 2
    assert f"expected SHA-256 {digest}" in capsys.readouterr().err


def test_verify_without_the_file_says_what_to_fetch(capsys):
    assert main(["weights", "verify", "ViT-B-32"]) == 2
    assert "fetch open_clip_model.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["convert"], ["weights", "lift", "ViT-B-32"], ["convert", "af-clip"]])
def test_wrong_words_end_with_exit_status_2(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage: anomalib-zsad" in capsys.readouterr().err


def test_help_loads_no_torch():
    script = (
        "import sys\n"
        "from anomalib_zsad.cli import main\n"
        "try: main(['weights', '--help'])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules, 'anomalib' in sys.modules)\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told.endswith("0 False False\n")
    assert "where" in told
