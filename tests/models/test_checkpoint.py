"""Checkpoints are written whole, wherever the temporary folder is."""

import errno
import tempfile
from pathlib import Path

import pytest
import torch

from anomalib_zsad.models.checkpoint import CheckedCheckpointIO

FULL = OSError(errno.ENOSPC, "No space left on device")


def test_a_checkpoint_is_written_beside_its_place_and_replaces_the_old_one_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no such folder"))
    path = tmp_path / "new" / "model.ckpt"
    writer = CheckedCheckpointIO()
    writer.save_checkpoint({"epoch": 1}, path)
    writer.save_checkpoint({"epoch": 2}, path)

    def full(_: object, file: Path) -> None:
        file.write(b"PK")
        raise FULL

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        writer.save_checkpoint({"epoch": 3}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 2}
    assert list(path.parent.iterdir()) == [path]
