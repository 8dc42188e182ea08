"""Sentences about drawn pictures, for contrastive training."""

from collections.abc import Sequence

import numpy as np

from anomalib_zsad.synthetic.drawing.picture import Picture

_NAMES = {
    "cloth": ("cloth", "fabric", "woven cloth"),
    "wood": ("board", "wooden surface", "plank"),
    "leather": ("leather", "piece of leather"),
    "stone": ("stone", "stone surface"),
    "marble": ("slab", "polished surface"),
    "tile": ("tile", "tiles", "tiled surface"),
    "brick": ("brick wall", "wall of bricks"),
    "brushed_metal": ("sheet", "brushed metal", "metal sheet"),
    "carpet": ("carpet", "rug"),
    "sponge": ("sponge", "porous sponge"),
    "knitwear": ("knitwear", "knitted fabric"),
    "mesh": ("mesh", "grid", "wire mesh"),
    "washer": ("washer", "ring"),
    "tablet": ("tablet", "pill"),
    "biscuit": ("biscuit", "cookie"),
    "button": ("button", "round button"),
    "bottle_cap": ("bottle cap", "crown cap"),
    "coin": ("coin", "round coin"),
    "plate": ("plate", "dish"),
    "apple": ("apple", "fruit"),
    "gear": ("gear", "gear wheel", "cogwheel"),
    "bolt": ("bolt", "bolt head", "hexagonal bolt"),
    "circuit_board": ("circuit board", "printed circuit board"),
    "key": ("key", "door key"),
    "leaf": ("leaf", "leaf of a plant"),
    "pencil": ("pencil", "sharpened pencil"),
    "zipper": ("zipper", "zip"),
    "label": ("label", "printed label"),
    "cable": ("cable", "cut cable"),
    "capsule": ("capsule", "medicine capsule"),
}
_DEFECTS = {
    "scratch": ("scratch", "scrape", "scuff mark", "abrasion"),
    "crack": ("crack", "fracture", "fissure"),
    "hole": ("hole", "puncture", "opening"),
    "dent": ("dent", "hollow", "bump"),
    "stain": ("stain", "smudge", "blotch"),
    "contamination": ("contamination", "foreign object", "foreign body", "patch of dirt"),
    "colour_spot": ("colour spot", "color spot", "discoloured spot", "discoloration"),
    "burn": ("burn", "burn mark", "scorch mark"),
    "deformation": ("deformation", "distortion", "bend"),
    "chipped_edge": ("chipped edge", "chip", "broken edge"),
    "missing_part": ("missing part", "missing piece", "lost part"),
    "misplacement": ("misplaced part", "shifted part", "part out of place"),
    "misprint": ("misprint", "printing error", "faulty print"),
}
_HURT = {
    "scratch": "scratched",
    "crack": "cracked",
    "hole": "punctured",
    "dent": "dented",
    "stain": "stained",
    "contamination": "contaminated",
    "colour_spot": "discoloured",
    "burn": "burnt",
    "deformation": "deformed",
    "chipped_edge": "chipped",
    "missing_part": "incomplete",
    "misplacement": "misaligned",
    "misprint": "misprinted",
}
_GOOD = ("flawless", "perfect", "good", "normal", "intact", "undamaged", "unblemished", "clean")
_BAD = ("damaged", "broken", "defective", "abnormal", "flawed", "faulty")
_WITHOUT = (
    "without defect",
    "without flaw",
    "without damage",
    "without any defect",
    "without blemish",
    "in good condition",
)
_WITH = ("with defect", "with flaw", "with damage", "with a defect", "with blemish", "in bad condition")
_SIZES = {"small": ("small", "tiny"), "medium": ("medium", ""), "large": ("large", "big")}
_OPENINGS = ("{}", "a photo of {}", "a picture of {}", "an image of {}", "a close-up photo of {}", "this is {}")
_UNSAID = ("flesh", "tissue", "powder", "dough", "cowhide")
"""Materials that captions do not name."""


def caption(picture: Picture, generator: np.random.Generator) -> str:
    """Describe a picture: the object, its state, and some of its other attributes.

    Args:
        picture: From `draw`.
        generator: Chooses content and wording.
    """
    if generator.random() < 0.06:
        return f"{_choice(generator, _WITH[:3] if picture.defect else _WITHOUT[:3])}."
    words, state = [], generator.random()
    if state < 0.5:
        words.append(_adjective(picture, generator))
    if generator.random() < 0.15:
        words.append("object")
    else:
        words += _named(picture, generator)
    if state > 0.35:
        words.append(_clause(picture, generator))
    if picture.words["background"] and generator.random() < 0.25:
        words.append(f"on a {picture.words['background']} background")
    thing = _with_article(" ".join(filter(None, words)), generator)
    return _choice(generator, _OPENINGS).format(thing) + _choice(generator, ("", "."))


def _named(picture: Picture, generator: np.random.Generator) -> list[str]:
    words = []
    if generator.random() < 0.45:
        words.append(picture.words["colour"])
    if picture.material not in _UNSAID and generator.random() < 0.45:
        words.append(picture.material)
    return [*words, _choice(generator, _NAMES[picture.category])]


def _adjective(picture: Picture, generator: np.random.Generator) -> str:
    if picture.defect is None:
        return _choice(generator, _GOOD)
    return _HURT[picture.defect] if generator.random() < 0.3 else _choice(generator, _BAD)


def _clause(picture: Picture, generator: np.random.Generator) -> str:
    if picture.defect is None:
        return _choice(generator, _WITHOUT)
    if generator.random() < 0.35:
        return _choice(generator, _WITH)
    size = _choice(generator, _SIZES[picture.words["size"]]) if generator.random() < 0.5 else ""
    if size == "large" and picture.defect in ("scratch", "crack"):
        size = "long"
    what = " ".join(filter(None, (size, _choice(generator, _DEFECTS[picture.defect]))))
    return f"with {_a(what)}{_at(picture.words['place'], generator)}"


def _at(place: str, generator: np.random.Generator) -> str:
    if generator.random() < 0.4:
        return ""
    if place == "centre":
        return _choice(generator, (" at the centre", " at the center", " in the middle"))
    return f" {'on' if place in ('left', 'right') else 'at'} the {place}"


def _with_article(words: str, generator: np.random.Generator) -> str:
    return _choice(generator, (_a(words), _a(words), words, f"the {words}"))


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _choice(generator: np.random.Generator, texts: Sequence[str]) -> str:
    return texts[int(generator.integers(len(texts)))]
