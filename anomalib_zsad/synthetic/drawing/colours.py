"""Colours and materials, by the names that captions give them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COLOURS = {
    "white": (0.90, 0.89, 0.86),
    "grey": (0.55, 0.55, 0.55),
    "black": (0.13, 0.13, 0.14),
    "red": (0.72, 0.16, 0.15),
    "orange": (0.88, 0.49, 0.14),
    "yellow": (0.88, 0.77, 0.26),
    "green": (0.24, 0.50, 0.26),
    "blue": (0.20, 0.36, 0.66),
    "purple": (0.44, 0.27, 0.52),
    "pink": (0.87, 0.60, 0.63),
    "brown": (0.46, 0.29, 0.17),
    "beige": (0.80, 0.70, 0.55),
    "silver": (0.70, 0.71, 0.73),
    "golden": (0.78, 0.62, 0.30),
    "copper": (0.74, 0.44, 0.30),
}

ANY = tuple(COLOURS)[:12]
"""All but those of metals."""


@dataclass(frozen=True)
class Material:
    """How a material looks where it is damaged.

    Args:
        name: The word for it.
        core: What is below the surface, RGB. None: the surface's own colour, paler.
        gloss: Strength of highlights.
        relief: Strength of the light and shade of a dent.
    """

    name: str
    core: tuple[float, float, float] | None = None
    gloss: float = 0.0
    relief: float = 0.35


METALS = {
    name: Material(name, (0.96, 0.96, 0.94), gloss=0.35, relief=0.5)
    for name in ("steel", "brass", "copper", "aluminium", "iron")
}
MATERIALS = {
    **METALS,
    "cotton": Material("cotton"),
    "linen": Material("linen"),
    "wool": Material("wool"),
    "polyester": Material("polyester"),
    "oak": Material("oak", (0.88, 0.76, 0.56)),
    "pine": Material("pine", (0.92, 0.82, 0.62)),
    "walnut": Material("walnut", (0.78, 0.62, 0.44)),
    "cowhide": Material("cowhide", (0.84, 0.74, 0.60), gloss=0.15),
    "granite": Material("granite", (0.86, 0.85, 0.83), gloss=0.1),
    "marble": Material("marble", (0.95, 0.94, 0.92), gloss=0.2),
    "ceramic": Material("ceramic", (0.88, 0.83, 0.76), gloss=0.4),
    "clay": Material("clay", (0.85, 0.55, 0.40)),
    "foam": Material("foam"),
    "plastic": Material("plastic", gloss=0.3),
    "rubber": Material("rubber", gloss=0.1),
    "paper": Material("paper", (0.93, 0.91, 0.87)),
    "cardboard": Material("cardboard", (0.84, 0.74, 0.60)),
    "powder": Material("powder", (0.97, 0.95, 0.92)),
    "gelatin": Material("gelatin", (0.95, 0.93, 0.88), gloss=0.5),
    "dough": Material("dough", (0.95, 0.85, 0.62)),
    "fibreglass": Material("fibreglass", (0.82, 0.78, 0.58), gloss=0.2),
    "flesh": Material("flesh", (0.60, 0.45, 0.22), gloss=0.35),
    "tissue": Material("tissue", (0.55, 0.40, 0.18), gloss=0.1, relief=0.25),
}

METAL_COLOURS = {"steel": "silver", "aluminium": "silver", "iron": "grey", "brass": "golden", "copper": "copper"}


def shade(generator: np.random.Generator, names: Sequence[str], spread: float = 0.06) -> tuple[str, np.ndarray]:
    """Choose a colour by name, a little lighter, darker or otherwise tinted each time.

    Args:
        generator: The source of chance.
        names: Keys of `COLOURS`.
        spread: Standard deviation of each channel.

    Returns:
        The name and RGB, shape (3,), in [0, 1].
    """
    name = str(generator.choice(names))
    colour = np.array(COLOURS[name]) * generator.uniform(0.8, 1.2) + generator.normal(0, spread / 2, 3)
    return name, np.clip(colour, 0.03, 0.97).astype(np.float32)


def made_of(
    generator: np.random.Generator,
    materials: Sequence[str],
    colours: Sequence[str] = ANY,
) -> tuple[Material, str, np.ndarray]:  # material, name of the colour, RGB (3,)
    """Choose a material, and a colour: a metal has its own, anything else one of the colours."""
    material = MATERIALS[str(generator.choice(materials))]
    own = METAL_COLOURS.get(material.name)
    return material, *shade(generator, [own] if own else colours)
