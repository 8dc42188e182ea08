"""Weight files of CLIP in OpenAI's and open_clip's layouts, and the architecture that follows from their shapes."""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from anomalib_zsad.clip.named import HEAD_WIDTH
from anomalib_zsad.clip.packing import unpack
from anomalib_zsad.clip.restricted import RefusedError
from anomalib_zsad.clip.torch_file import read_torch_file

_HEAD_WIDTHS = {
    1280: 80,
    1408: 88,
    1664: 104,
    1792: 112,
}  # ViT-H, g, bigG and e: no shape determines the number of heads

_NO_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "attn_mask"}
"""Tensors that TorchScript modules of CLIP hold beside their weights."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the weights of a CLIP without executing code from the file.

    Args:
        path: A `.safetensors` file, a state dict saved by torch (plain or under "state_dict"), OpenAI's TorchScript
            archive, or the file that this package brings, whose table of words is rebuilt.

    Returns:
        The tensors in float32 on the CPU, by their names in OpenAI's layout.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated, holds anything else, or a weight is no finite number.
    """
    if not path.is_file():
        msg = f"{path}: expected a file with the weights of a CLIP, found none"
        raise FileNotFoundError(msg)
    try:
        content = _read(path)
        content = unpack(content) if path.suffix == ".safetensors" else content
    except RefusedError as error:
        msg = f"{path}: expected the weights of a CLIP, but reading them asks for {error}, which no tensor needs"
        raise ValueError(msg) from error
    except Exception as error:  # damaged files fail in many ways inside safetensors
        msg = (
            f"{path}: expected the weights of a CLIP (.safetensors, a state dict saved by torch, OpenAI's TorchScript "
            f"archive), but the file is truncated or of another kind ({_first_line(error)})"
        )
        raise ValueError(msg) from error
    return _flat_layout(_tensors(path, content))


def clip_of(state_dict: dict[str, Tensor], origin: str | Path = "these weights") -> nn.Module:
    """Build the CLIP vision transformer that weights belong to, without memory for its own (device "meta").

    Args:
        state_dict: The weights as `read_state_dict` returns them.
        origin: The file that they come from, for messages.

    Returns:
        An `open_clip.CLIP` with exactly these parameters.

    Raises:
        ValueError: If the weights are those of another kind of model, or incomplete.
    """
    import open_clip

    fault = _sign_of_another_model(state_dict)
    if not fault:
        try:
            with torch.device("meta"):
                clip = open_clip.CLIP(**architecture_of(state_dict))
            fault = faults_of(state_dict, clip)
        except KeyError as error:
            fault = f"{error.args[0]} is missing"
        except (ArithmeticError, AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            fault = f"the shapes fit none ({_first_line(error)})"
    if fault:
        msg = (
            f"{origin}: only complete CLIP vision transformers in OpenAI's or open_clip's layout are supported; {fault}"
        )
        raise ValueError(msg)
    return clip


def architecture_of(state_dict: dict[str, Tensor]) -> dict[str, Any]:
    """Derive the configuration of an `open_clip.CLIP` from the shapes of its weights."""
    shapes = {key: tuple(value.shape) for key, value in state_dict.items()}
    width, _, patch_size, _ = shapes["visual.conv1.weight"]
    positions, _ = shapes["visual.positional_embedding"]
    grid = round((positions - 1) ** 0.5)
    if grid * grid != positions - 1:
        msg = f"visual.positional_embedding holds {positions - 1} patches, no square grid"
        raise ValueError(msg)
    vocabulary, text_width = shapes["token_embedding.weight"]
    return {
        "embed_dim": shapes["visual.proj"][1],
        "vision_cfg": {
            "image_size": grid * patch_size,
            "layers": _blocks(state_dict, "visual.transformer."),
            "width": width,
            "patch_size": patch_size,
            "head_width": _HEAD_WIDTHS.get(width, HEAD_WIDTH),
            **_mlp_ratio(shapes["visual.transformer.resblocks.0.mlp.c_fc.weight"]),
        },
        "text_cfg": {
            "context_length": shapes["positional_embedding"][0],
            "vocab_size": vocabulary,
            "width": text_width,
            "heads": text_width // HEAD_WIDTH,
            "layers": _blocks(state_dict, "transformer."),
            **_mlp_ratio(shapes["transformer.resblocks.0.mlp.c_fc.weight"]),
        },
    }


def faults_of(state_dict: dict[str, Tensor], clip: nn.Module) -> str:
    """Return where weights are not those of a model, "" if they are."""
    expected = {key: tuple(value.shape) for key, value in clip.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state_dict.items()}
    faults = [f"{key} of shape {shape} is missing" for key, shape in expected.items() if key not in found]
    faults += [
        f"{key} should have shape {shape} and has {found[key]}"
        for key, shape in expected.items()
        if found.get(key, shape) != shape
    ]
    faults += [f"{key} is not part of one" for key in sorted(found.keys() - expected.keys())]
    return f"{faults[0]} ({len(faults)} such tensors in all)" if faults else ""


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    return read_torch_file(path)


def _tensors(path: Path, content: Any) -> dict[str, Tensor]:
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content or not all(isinstance(key, str) for key in content):
        msg = f"{path}: expected a state dict of named tensors, got {type(content).__name__}"
        raise ValueError(msg)
    tensors = {
        key: value.float() if value.is_floating_point() else value
        for key, value in content.items()
        if isinstance(value, Tensor) and key.rpartition(".")[2] not in _NO_WEIGHTS
    }
    for key, value in tensors.items():
        if not value.isfinite().all():
            msg = f"{path}: expected finite weights, got {int((~value.isfinite()).sum())} others in {key}"
            raise ValueError(msg)
    return tensors


def _flat_layout(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    if all(key.startswith("module.") for key in state_dict):  # saved from a parallel run
        state_dict = {key.removeprefix("module."): value for key, value in state_dict.items()}
    if "text.token_embedding.weight" in state_dict:  # open_clip's CustomTextCLIP
        state_dict = {key.removeprefix("text."): value for key, value in state_dict.items()}
    for name in ("logit_scale", "logit_bias"):
        scale = state_dict.get(name)
        if scale is not None and scale.numel() == 1:  # some training scripts keep it as a vector of one
            state_dict[name] = scale.reshape(())
    return state_dict


def _sign_of_another_model(state_dict: dict[str, Tensor]) -> str:
    signs = {
        "visual.layer1.": "a ResNet",
        "visual.trunk.": "a timm tower, whose shapes do not tell its architecture: name it as the backbone",
        "text.transformer.": "a text tower of Hugging Face",
        "text_decoder.": "CoCa",
        "vision_model.": "the layout of Hugging Face's transformers",
    }
    for prefix, what in signs.items():
        if any(key.startswith(prefix) for key in state_dict):
            return f"found {what}"
    if "visual.conv1.weight" not in state_dict:
        return f"expected visual.conv1.weight among others, found {', '.join(list(state_dict)[:3]) or 'no tensor'}"
    return ""


def _blocks(state_dict: dict[str, Tensor], tower: str) -> int:
    pattern = re.compile(re.escape(tower) + r"resblocks\.(\d+)\.")
    numbers = {int(match[1]) for match in map(pattern.match, state_dict) if match}
    return len(numbers)  # a gap shows in the names


def _mlp_ratio(shape: tuple[int, ...]) -> dict[str, float]:
    hidden, width = shape
    if hidden == 4 * width:
        return {}
    # open_clip takes int(width * ratio): the half keeps rounding from losing one.
    return {"mlp_ratio": hidden / width if hidden % width == 0 else (hidden + 0.5) / width}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
