"""Things put together from several parts."""

import numpy as np

from anomalib_zsad.synthetic.drawing.canvas import Canvas, blend, box, edge
from anomalib_zsad.synthetic.drawing.colours import ANY, MATERIALS, METAL_COLOURS, made_of, shade
from anomalib_zsad.synthetic.drawing.object_parts import bar, disc, text
from anomalib_zsad.synthetic.drawing.placing import laid, placed, surface
from anomalib_zsad.synthetic.drawing.scene import Part, Scene, Shape, Tint


def gear(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A gear wheel with a bore, at times with openings between spokes."""
    material, name, base = made_of(generator, ["steel", "brass", "iron", "plastic"], ("white", "black", "red", "blue"))
    pose = placed(generator)
    u, v = pose.local(canvas.x, canvas.y)
    px = canvas.px / pose.scale
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    teeth, root, bore = int(generator.integers(9, 16)), generator.uniform(0.76, 0.82), generator.uniform(0.15, 0.26)
    wide = 0.95 * root * np.pi / teeth / 2
    cover = edge(radius - root, px) * edge(bore - radius, px)
    if generator.random() < 0.6:
        arms = generator.integers(3, 7)
        for a in np.arange(arms) * 2 * np.pi / arms:
            cover = cover * (1 - edge(np.hypot(u - 0.5 * np.cos(a), v - 0.5 * np.sin(a)) - 0.6 / arms, px))
    turned = np.interp(radius, np.linspace(0, 1.5, 90), generator.normal(0, 0.04, 90)).astype(np.float32)
    sheen = np.float32(0.25 * material.gloss) * np.cos(2 * angle + np.float32(generator.uniform(0, 6)))
    hub = 0.15 * np.tanh((0.36 - radius) / 0.02) - 0.25 * np.exp(-(((radius - bore) / 0.03) ** 2))
    thing = base * (1 + turned + sheen + hub + 0.04 * canvas.noise(generator, 60))[..., None]
    tooth = _tooth(0.93 - root, wide)
    tops = [
        Part(0.9 * np.cos(a), 0.9 * np.sin(a), 0.28, tooth, base, a, relief=0.25)
        for a in np.arange(teeth) * 2 * np.pi / teeth
    ]
    scene = laid(generator, canvas, pose, thing, cover, material, name, tops)
    # The teeth are parts, not drawn with the wheel, but a defect may lie on them.
    beside = (angle + np.pi / teeth) % (2 * np.pi / teeth) - np.pi / teeth
    scene.inside = np.maximum(cover, tooth(radius * np.cos(beside) - np.float32(0.9), radius * np.sin(beside), px))
    return scene


def _tooth(depth: float, wide: float) -> Shape:
    # Wider at its foot than at its top.
    return lambda u, v, px: edge(box(u, v * (1 + np.clip(u / 0.1, -1, 1) * 0.25), depth, wide, 0.02), px)


def circuit_board(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A circuit board with traces, pads, chips, capacitors and printed letters."""
    name, base = shade(generator, ("green", "green", "blue", "red", "black"))
    pose = placed(generator, (0.78, 0.95))
    u, v = pose.local(canvas.x, canvas.y)
    px, low = canvas.px / pose.scale, generator.uniform(0.6, 0.85)
    distance = box(u, v, 0.95, low, 0.05)
    thing = base * (1 + 0.04 * canvas.noise(generator, 40))[..., None]
    pitch = generator.uniform(0.08, 0.12)
    lanes = (v / pitch + np.where(np.abs(u % 0.6 - 0.3) < 0.1, 1, 0) * 0.5) % 1 - 0.5
    thing = blend(
        thing,
        np.clip(base * 1.45 + 0.03, 0, 1),
        0.8 * edge(np.abs(lanes) * pitch - 0.014, px) * (np.sin(u * 3 + np.floor(v / 0.3) * 2) > -0.3),
    )
    for a in (-0.85, 0.85):
        pad = np.hypot(u - a, (v / 0.13) % 1 * 0.13 - 0.065)
        thing = blend(thing, np.array([0.82, 0.74, 0.5]), edge(np.abs(pad - 0.035) - 0.015, px))
    parts: list[Part] = []
    for a in np.linspace(-0.55, 0.55, 4):
        for b in np.linspace(-low + 0.2, low - 0.2, 3):
            if generator.random() < 0.8:
                place = a + generator.normal(0, 0.02), b + generator.normal(0, 0.02)
                parts.append(_component(generator, *place))
    parts += text(generator, 4, 0.1, generator.uniform(-0.4, 0.4), low - 0.08, np.array([0.9, 0.9, 0.86]))
    return laid(generator, canvas, pose, thing, edge(distance, px), MATERIALS["fibreglass"], name, parts)


def _component(generator: np.random.Generator, u: float, v: float) -> Part:
    kind, turn = generator.integers(0, 4), generator.integers(0, 2) * np.pi / 2
    size, tone = generator.uniform(0.85, 1.1), generator.uniform(0.8, 1.2)
    if kind == 0:
        return Part(u, v, 0.2, disc(0.12 * size), np.array([0.62, 0.63, 0.66]) * tone, relief=0.4)

    def chip(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        body = np.abs(b) < 0.075 * size
        dark = np.where(body, 0.14 * tone, 0.75)[..., None] * np.ones(3)
        return np.where((np.hypot(a + 0.1 * size, b + 0.04) < 0.02)[..., None], 0.5, dark).astype(np.float32)

    def pins(a: np.ndarray, b: np.ndarray, px: float) -> np.ndarray:
        legs = np.maximum(np.abs(a % 0.06 - 0.03) - 0.014, box(a, b, 0.14 * size, 0.11 * size))
        return edge(np.minimum(box(a, b, 0.16 * size, 0.075 * size), legs), px)

    def resistor(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # noqa: ARG001
        ends = np.abs(a) > 0.08 * size
        return np.where(
            ends[..., None], 0.78, np.array([0.25, 0.2, 0.17] if kind == 1 else [0.7, 0.52, 0.3]) * tone
        ).astype(np.float32)

    if kind == 3:
        return Part(u, v, 0.24, pins, chip, turn)
    return Part(u, v, 0.17, bar(0.12 * size, 0.06 * size, 0.01), resistor, turn, relief=0.1)


def pencil(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A sharpened pencil with a ferrule, an eraser and a printed name."""
    name, base = shade(generator, ANY)
    pose = placed(generator, (0.85, 0.98), np.pi)
    u, v = pose.local(canvas.x, canvas.y)
    px, wide = canvas.px / pose.scale, generator.uniform(0.13, 0.19)
    tip = np.clip((0.95 - u) / 0.35, 0, 1)
    distance = np.maximum(np.abs(v) - wide * tip, np.abs(u) - 0.95)
    faces = np.array([0.75, 1.08, 0.9], dtype=np.float32)[np.clip((v / wide * 1.5 + 1.5).astype(int), 0, 2)]
    thing = base * faces[..., None]
    cone = u - 0.6 - 0.03 * np.cos(v / wide * 3 * np.pi)
    thing = blend(
        thing, np.array([0.86, 0.7, 0.48]) * (1 + 0.06 * canvas.noise(generator, 60))[..., None], edge(-cone, px)
    )
    lead = base * 0.8 if generator.random() < 0.5 else np.array([0.2, 0.2, 0.21])
    thing = blend(thing, lead, edge(0.86 - u, px))
    rubber = shade(generator, ("pink", "white", "green", "red"))[1]
    parts = [
        Part(-0.85, 0, 0.24, bar(0.1, wide - 0.012, 0.04), rubber, relief=0.3),
        Part(-0.66, 0, 0.24, bar(0.1, wide), _ribbed, relief=0.3),
        *text(
            generator,
            6,
            0.6 * wide,
            generator.uniform(-0.1, 0.1),
            0,
            np.array([0.92, 0.86, 0.6]) if base.mean() < 0.5 else np.array([0.15, 0.15, 0.2]),
        ),
    ]
    return laid(generator, canvas, pose, thing, edge(distance, px), MATERIALS["pine"], name, parts)


def _ribbed(
    u: np.ndarray,  # (h, w)
    v: np.ndarray,  # (h, w)
) -> np.ndarray:  # (h, w, 3)
    return np.array([0.72, 0.72, 0.7], dtype=np.float32) * (0.8 + 0.3 * np.cos(u * 110))[..., None] + 0 * v[..., None]


def zipper(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A closed zipper between two tapes."""
    material = MATERIALS[generator.choice(["brass", "steel", "plastic"])]
    name, tape = shade(generator, ANY)
    metal = (
        shade(generator, [METAL_COLOURS.get(material.name, "grey")])[1]
        if material.name != "plastic"
        else tape * 0.7 + 0.1
    )
    pose = placed(generator, (0.95, 1.0), np.pi)
    u, v = pose.local(canvas.x, canvas.y)
    weave = np.sin((u + v) * np.float32(75)) * np.sin((u - v) * np.float32(75))
    thing = tape * (0.9 + 0.14 * weave + 0.05 * canvas.noise(generator, 40))[..., None]
    thing = thing * (1 - 0.35 * np.exp(-(((np.abs(v) - 0.3) / 0.02) ** 2)))[..., None]
    thing = thing * (1 - 0.45 * np.exp(-((v / 0.2) ** 4)))[..., None]
    pitch = generator.uniform(0.085, 0.12)
    teeth = [
        Part(pitch * (n / 2), 0.055 * (-1) ** n, 0.2, bar(0.19 * pitch * 1.8, 0.125, 0.03), metal, relief=0.5)
        for n in range(-int(2 / pitch), int(2 / pitch))
        if abs(pitch * n / 2) < 1.0
    ]
    return surface(generator, canvas, thing, MATERIALS["polyester"], name, tape * 0.2, parts=teeth, pose=pose)


def cable(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A cut cable: a sheath around insulated wires of copper strands."""
    name, base = shade(generator, ("black", "grey", "white", "orange", "red"))
    pose = placed(generator, (0.55, 0.74))
    u, v = pose.local(canvas.x, canvas.y)
    radius, count = np.hypot(u, v), int(generator.integers(3, 5))
    sheath = (
        base
        * (1 + 0.2 * np.exp(-(((radius - 0.9) / 0.05) ** 2)) * (-u - v) + 0.03 * canvas.noise(generator, 40))[..., None]
    )
    thing = blend(sheath, base * 0.35 + 0.05, edge(radius - 0.84, canvas.px / pose.scale))
    wires = []
    for number, colour in enumerate(
        generator.choice(["brown", "blue", "green", "yellow", "red", "grey"], count, replace=False)
    ):
        a, away = number * 2 * np.pi / count, 0.43 if count == 3 else 0.48
        insulation, size = shade(generator, [colour])[1], (0.37 if count == 3 else 0.32)
        wires.append(
            Part(away * np.cos(a), away * np.sin(a), size * 1.1, disc(size), _strands(insulation, size), a, relief=0.12)
        )
    return laid(
        generator, canvas, pose, thing, edge(radius - 1, canvas.px / pose.scale), MATERIALS["rubber"], name, wires
    )


def _strands(insulation: np.ndarray, size: float) -> Tint:
    def colour(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        pitch = 0.24 * size
        row = np.floor(v / pitch)
        shine = 1 - 1.4 * np.hypot((u / pitch + 0.5 * (row % 2)) % 1 - 0.5, (v / pitch) % 1 - 0.5)
        copper = np.array([0.9, 0.56, 0.36]) * np.clip(shine, 0.2, 1)[..., None]
        return np.where((np.hypot(u, v) < 0.66 * size)[..., None], copper, insulation).astype(np.float32)

    return colour


ASSEMBLED = (gear, circuit_board, pencil, zipper, cable)
