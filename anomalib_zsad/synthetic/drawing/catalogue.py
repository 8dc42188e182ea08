"""Every category with the defects that it can have, and which categories are kept for testing."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from anomalib_zsad.synthetic.drawing import assembled_objects, round_objects, single_objects, textures
from anomalib_zsad.synthetic.drawing.canvas import Canvas
from anomalib_zsad.synthetic.drawing.damage import Damage
from anomalib_zsad.synthetic.drawing.marks import burn, colour_spot, contamination, crack, scratch, stain
from anomalib_zsad.synthetic.drawing.part_defects import misplacement, misprint, missing_part
from anomalib_zsad.synthetic.drawing.scene import Scene
from anomalib_zsad.synthetic.drawing.wounds import chipped_edge, deformation, dent, hole

DEFECTS: dict[str, Callable[[Scene, np.random.Generator, float], Damage]] = {
    function.__name__: function
    for function in (
        scratch, crack, hole, dent, stain, contamination, colour_spot, burn, deformation, chipped_edge,
        missing_part, misplacement, misprint,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Category:
    """A kind of thing.

    Args:
        draw: Draws it.
        defects: The kinds of defect that make sense for it, keys of `DEFECTS`.
        is_texture: Whether it fills the picture.
    """

    draw: Callable[[np.random.Generator, Canvas], Scene]
    defects: tuple[str, ...]
    is_texture: bool


_SOFT = "hole stain contamination colour_spot burn deformation"
_RIGID = "scratch crack stain contamination colour_spot"
_METAL = "scratch dent stain contamination colour_spot"
_OF = {
    "cloth": _SOFT,
    "wood": f"{_RIGID} hole burn dent",
    "leather": f"scratch {_SOFT}",
    "stone": f"{_RIGID} hole",
    "marble": f"{_RIGID} hole",
    "tile": f"{_RIGID} hole",
    "brick": "crack hole stain contamination colour_spot burn",
    "brushed_metal": f"{_METAL} hole burn",
    "carpet": "hole stain contamination colour_spot burn",
    "sponge": "stain contamination colour_spot burn crack",
    "knitwear": _SOFT,
    "mesh": "hole deformation contamination burn colour_spot",
    "washer": f"{_METAL} crack chipped_edge",
    "tablet": f"{_RIGID} chipped_edge misprint hole",
    "biscuit": "crack hole burn contamination colour_spot chipped_edge missing_part misplacement",
    "button": f"{_RIGID} chipped_edge missing_part misplacement",
    "bottle_cap": f"{_METAL} misprint deformation",
    "coin": f"{_METAL} crack misprint",
    "plate": f"{_RIGID} chipped_edge misprint missing_part",
    "apple": "scratch hole dent stain colour_spot contamination",
    "gear": f"{_METAL} crack missing_part misplacement",
    "bolt": f"{_METAL} crack chipped_edge misprint",
    "circuit_board": "scratch crack burn contamination stain missing_part misplacement",
    "key": f"{_METAL} deformation",
    "leaf": "hole stain colour_spot burn contamination deformation",
    "pencil": "scratch crack stain contamination colour_spot burn missing_part misprint",
    "zipper": "hole stain contamination burn missing_part misplacement",
    "label": "scratch hole stain contamination chipped_edge misprint misplacement deformation",
    "cable": "scratch crack contamination burn missing_part misplacement",
    "capsule": "scratch crack dent stain contamination colour_spot misprint",
}

CATEGORIES: dict[str, Category] = {
    draw.__name__: Category(draw, tuple(_OF[draw.__name__].split()), draw in textures.TEXTURES)
    for draw in (*textures.TEXTURES, *round_objects.ROUND, *single_objects.SINGLE, *assembled_objects.ASSEMBLED)
}
UNSEEN = ("leather", "stone", "tile", "mesh", "biscuit", "button", "coin", "capsule")
"""Kept for testing: neither the small CLIP nor any adapter is trained on them."""
SEEN = tuple(name for name in CATEGORIES if name not in UNSEEN)
"""Used for training."""
