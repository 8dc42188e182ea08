"""A small CLIP with random weights, as a file in OpenAI's layout."""

from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor

IMAGE_SIZE = 56
ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 42, "layers": 4, "width": 64, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}
SHALLOW = {**ARCHITECTURE, "vision_cfg": {**ARCHITECTURE["vision_cfg"], "layers": 2}}
"""For exports, which take time by the operation."""


def small_clip_state(seed: int = 0, architecture: dict[str, Any] = ARCHITECTURE) -> dict[str, Tensor]:
    """Random weights, with biases that are not zero, so that nothing hides behind them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = open_clip.CLIP(**architecture).state_dict()
        noise = {key: torch.randn_like(value) for key, value in state.items() if value.ndim == 1}
    return {key: value + 0.1 * noise[key] if key in noise else value for key, value in state.items()}


def write_small_clip(path: Path, seed: int = 0, architecture: dict[str, Any] = ARCHITECTURE) -> Path:
    """Write them."""
    torch.save(small_clip_state(seed, architecture), path)
    return path
