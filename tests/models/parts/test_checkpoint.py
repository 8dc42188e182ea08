"""Checkpoints are written whole, wherever the temporary folder is."""

import errno
import tempfile
from pathlib import Path

import pytest
import torch

from anomalib_zsad.models.parts.checkpoint import CheckedCheckpointIO

FULL = OSError(errno.ENOSPC, "No space left on device")
LOST = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")  # torch's word for it


@pytest.mark.parametrize("failure", [FULL, LOST])
def test_a_checkpoint_is_written_beside_its_place_and_replaces_the_old_one_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such folder"))
    path = tmp_path / "new" / "model.ckpt"
    writer = CheckedCheckpointIO()
    writer.save_checkpoint({"epoch": 1}, path)
    writer.save_checkpoint({"epoch": 2}, path)

    def full(_: object, file: Path) -> None:
        file.write(b"PK")
        raise failure

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"model\.ckpt"):
        writer.save_checkpoint({"epoch": 3}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 2}
    assert list(path.parent.iterdir()) == [path]
