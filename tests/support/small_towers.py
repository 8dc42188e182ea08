"""Small CLIPs of every kind of vision tower of timm, with random weights, under names that open_clip and timm know."""

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from open_clip.model import CLIPTextCfg
from torch import Tensor, nn

IMAGE_SIZE = 42

_TRUNKS: dict[str, tuple[str, dict[str, Any]]] = {
    "zsad-small-eva02": ("eva02_large_patch14_clip_336", {"mlp_ratio": 4 * 2 / 3, "ref_feat_shape": (2, 2)}),
    "zsad-small-pe": ("vit_pe_core_large_patch14_336", {"attn_pool_num_heads": 2, "ref_feat_shape": (3, 3)}),
    "zsad-small-siglip": ("vit_so400m_patch14_siglip_378", {"mlp_ratio": 3.7362}),
}
"""By open_clip's name: what the real one is in timm, and what is smaller beside its widths."""

TIMM = tuple(_TRUNKS)

_TEXT = {"context_length": 32, "vocab_size": 49408, "width": 48, "heads": 2, "layers": 2}
_SIGLIP = {"width": 32, "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
if "act_kwargs" in CLIPTextCfg.__dataclass_fields__:  # open_clip before SigLIP 2 has GELU without approximation alone
    _SIGLIP["act_kwargs"] = {"approximate": "tanh"}


def configuration(backbone: str) -> dict[str, Any]:
    """Return what open_clip makes one of."""
    has_linear_head, is_siglip = backbone == "zsad-small-eva02", backbone == "zsad-small-siglip"
    return {
        "embed_dim": 32 if is_siglip else 24,
        "vision_cfg": {
            "image_size": IMAGE_SIZE,
            "timm_model_name": backbone.replace("-", "_"),
            "timm_model_pretrained": False,
            "timm_pool": "token" if has_linear_head else "map",
            "timm_proj": "none" if is_siglip else None,
        },
        "text_cfg": {**_TEXT, **(_SIGLIP if is_siglip else {})},
        **({"init_logit_bias": -10} if is_siglip else {}),
    }


@cache
def register() -> None:
    """Let timm and open_clip know them."""
    with tempfile.TemporaryDirectory() as folder:
        for name, (real, smaller) in _TRUNKS.items():
            timm.models.register_model(_entry_point(name.replace("-", "_"), real, smaller))
            config = {**configuration(name), "custom_text": True}
            (Path(folder) / f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(folder)


def small_model(backbone: str, seed: int = 0) -> nn.Module:
    """Build one as open_clip does; no bias, position or scale is zero or one, so that nothing hides behind them."""
    register()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CustomTextCLIP(**configuration(backbone)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def small_state(backbone: str, seed: int = 0) -> dict[str, Tensor]:
    """Return the weights as a file has them."""
    return {name: value.contiguous() for name, value in small_model(backbone, seed).state_dict().items()}


def _entry_point(name: str, real: str, smaller: dict[str, Any]) -> Any:
    def create(pretrained: bool = False, **options: Any) -> nn.Module:
        sizes = {"img_size": IMAGE_SIZE, "embed_dim": 32, "depth": 4, "num_heads": 2, **smaller}
        return timm.create_model(real, pretrained=pretrained, **{**sizes, **options})

    create.__name__ = name
    create.__module__ = "timm.models.eva"  # the registry wants one of its modules
    return create
