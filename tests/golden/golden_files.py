"""Reading the golden files: a small CLIP, inputs and every result of the authors' implementation."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).parent


def golden(name: str) -> dict[str, Tensor]:
    """All entries of a golden file that are numbers, floating-point ones in float32."""
    with np.load(HERE / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files if file[key].dtype.kind in "fiu"}
    tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}


def golden_clip_file(name: str, path: Path) -> Path:
    """Write the CLIP of a golden file as a state dict in OpenAI's layout."""
    entries = {key.removeprefix("clip/"): value for key, value in golden(name).items() if key.startswith("clip/")}
    rows, values = entries.pop("token_embedding.rows"), entries.pop("token_embedding.values")
    embedding = torch.zeros(49408, values.shape[1])
    embedding[rows.long()] = values
    torch.save({**entries, "token_embedding.weight": embedding}, path)
    return path


def assert_near(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    """Compare two tensors by their largest absolute difference."""
    assert ours.shape == theirs.shape
    difference = (ours.detach() - theirs).abs().max().item()
    assert difference <= tolerance, f"largest difference {difference:.2e}, allowed {tolerance:.0e}"
