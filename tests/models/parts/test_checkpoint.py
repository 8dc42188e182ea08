"""Checkpoints are written whole, wherever the temporary folder is."""

import errno
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch

from anomalib_zsad.models import AFClip
from anomalib_zsad.models.parts.checkpoint import CheckedCheckpointIO, check_readable
from tests.support.contract import save_checkpoint
from tests.support.small_clip import IMAGE_SIZE

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


@pytest.fixture
def checkpoint(small_clip: Path, tmp_path: Path) -> Path:
    model = AFClip(pretrained=small_clip, image_size=IMAGE_SIZE, scales=(1,), epochs=7)
    model.trained_on = ["VisA/candle"]
    return save_checkpoint(model, tmp_path / "a.ckpt")


def rewritten(path: Path, **changes: dict) -> Path:
    """The same checkpoint with other entries in its mappings."""
    content = torch.load(path, weights_only=True)
    for name, entries in changes.items():
        content[name] = {**content[name], **entries}
    torch.save(content, path)
    return path


def test_a_model_is_built_of_the_record_and_its_training_goes_on(checkpoint: Path, small_clip: Path) -> None:
    rewritten(checkpoint, hyper_parameters={"of_no_version": 1, "scales": (1, 3)})
    model = AFClip.load_from_checkpoint(checkpoint, pretrained=small_clip)
    assert model.hparams["scales"] == (1,)
    assert model.hparams["epochs"] == 7


def test_a_setting_of_another_version_is_named(checkpoint: Path, small_clip: Path) -> None:
    record = torch.load(checkpoint, weights_only=True)["anomalib_zsad"]
    rewritten(checkpoint, anomalib_zsad={"version": "9.9", "settings": {**record["settings"], "of_tomorrow": 1}})
    with pytest.raises(ValueError, match=r"not have: of_tomorrow; .* version 9\.9 .*: install that version"):
        AFClip.load_from_checkpoint(checkpoint, pretrained=small_clip)


def test_tensors_larger_than_the_file_are_refused(checkpoint: Path) -> None:
    rewritten(checkpoint, state_dict={"model.memory.features": torch.zeros(1).expand(1, 10**9, 10)})
    with pytest.raises(ValueError, match=r"a\.ckpt: .* its tensors take \d+ bytes, more than the file can hold"):
        check_readable(checkpoint)


def test_a_compressed_file_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.ckpt"
    with zipfile.ZipFile(checkpoint) as file, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as other:
        for name in file.namelist():
            other.writestr(name, file.read(name))
    with pytest.raises(ValueError, match=r"packed\.ckpt: expected a checkpoint"):
        check_readable(packed)
