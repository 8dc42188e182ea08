"""The commands `anomalib-zsad convert ...`."""

from pathlib import Path
from typing import TYPE_CHECKING

from anomalib_zsad.commands.typed import TOPICS, command

if TYPE_CHECKING:
    import torch

TOPICS["convert"] = "Turn weights that authors released into an adapter file."


@command("convert af-clip")
def convert_af_clip(*, prompt: Path, adaptor: Path, out: Path) -> int:
    """AF-CLIP: the prompt and the adaptor of one auxiliary dataset. Pickles are read without running them.

    Args:
        prompt: the authors' *_prompt.pt
        adaptor: the authors' *_adaptor.pt
        out: the adapter file to write, *.safetensors
    """
    from anomalib_zsad.clip.digest import hash_file
    from anomalib_zsad.models.af_clip.released import read_released
    from anomalib_zsad.models.parts.adapter_file import save_adapter
    from anomalib_zsad.models.parts.record import new_record, to_metadata

    tensors = read_released(prompt, adaptor)
    origin = {
        "prompt_sha256": hash_file(prompt),
        "adaptor_sha256": hash_file(adaptor),
        "origin": f"released by the authors: {prompt.name}, {adaptor.name}",
    }
    save_adapter(out, tensors, {**to_metadata(new_record("AFClip")), **origin})
    return _print_written(out, tensors)


@command("convert acd-clip")
def convert_acd_clip(*, checkpoint: Path, out: Path) -> int:
    """ACD-CLIP: one published checkpoint. Pickles are read without running them.

    Args:
        checkpoint: the authors' file, one an epoch
        out: the adapter file to write, *.safetensors
    """
    from anomalib_zsad.models.acd_clip.released import groups_in, read_released

    tensors = read_released(checkpoint)
    return _convert(checkpoint, "ACDClip", tensors, {"n_groups": groups_in(tensors)}, out)


@command("convert anomaly-clip")
def convert_anomaly_clip(*, checkpoint: Path, out: Path) -> int:
    """AnomalyCLIP: one released checkpoint. Pickles are read without running them.

    Args:
        checkpoint: the authors' epoch_15.pth
        out: the adapter file to write, *.safetensors
    """
    from anomalib_zsad.models.anomaly_clip.released import read_released, settings_in

    tensors = read_released(checkpoint).tensors
    return _convert(checkpoint, "AnomalyClip", tensors, settings_in(tensors), out)


def _convert(checkpoint: Path, method: str, tensors: "dict[str, torch.Tensor]", settings: dict, out: Path) -> int:
    """Write an adapter file with the tensors of one checkpoint, and report it."""
    from anomalib_zsad.clip.digest import hash_file
    from anomalib_zsad.models.parts.adapter_file import save_adapter
    from anomalib_zsad.models.parts.record import new_record, to_metadata

    origin = {"checkpoint_sha256": hash_file(checkpoint), "origin": f"released by the authors: {checkpoint.name}"}
    save_adapter(out, tensors, {**to_metadata(new_record(method, settings=settings)), **origin})
    return _print_written(out, tensors)


def _print_written(path: Path, tensors: "dict[str, torch.Tensor]") -> int:
    from anomalib_zsad.clip.digest import hash_file

    count = sum(tensor.numel() for tensor in tensors.values())
    print(f"{path}: {len(tensors)} tensors, {count} parameters, {path.stat().st_size} bytes")
    print(f"SHA-256 {hash_file(path)}")
    return 0
