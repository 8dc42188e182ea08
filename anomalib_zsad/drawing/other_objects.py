"""Things that are not round, or are put together from several parts."""

import numpy as np

from anomalib_zsad.drawing.canvas import Canvas, blend, box, edge
from anomalib_zsad.drawing.colours import MATERIALS, METAL_COLOURS, shade
from anomalib_zsad.drawing.parts import bar, disc, text
from anomalib_zsad.drawing.placing import laid, placed, surface
from anomalib_zsad.drawing.scene import Part, Scene, Shape, Tint

_ANY = ("white", "grey", "black", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "beige")
_INKS = ("black", "blue", "red", "green", "purple")


def gear(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A gear wheel with a bore, at times with openings between spokes."""
    material = MATERIALS[generator.choice(["steel", "brass", "iron", "plastic"])]
    name, base = shade(
        generator,
        [METAL_COLOURS[material.name]] if material.name in METAL_COLOURS else ("white", "black", "red", "blue"),
    )
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


def bolt(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """The hexagonal head of a bolt, with a recess and embossed marks."""
    material = MATERIALS[generator.choice(["steel", "brass", "iron"])]
    name, base = shade(generator, [METAL_COLOURS[material.name]])
    pose = placed(generator)
    u, v = pose.local(canvas.x, canvas.y)
    px = canvas.px / pose.scale
    sides = np.arange(6) * np.pi / 3
    across = np.stack([u * np.float32(np.cos(a)) + v * np.float32(np.sin(a)) for a in sides])
    hexagon, facet = across.max(0) - 0.86, across.argmax(0)
    radius = np.hypot(u, v)
    dome = np.clip((radius - 0.78) / 0.04, 0, 1)
    light = generator.normal(0, 0.12, 6).astype(np.float32)[facet]
    thing = (
        base
        * (1 + dome * (light - 0.1) + 0.05 * canvas.noise(generator, 50) + 0.06 * np.sin(u * np.float32(90)))[..., None]
    )
    recess = str(generator.choice(["none", "slot", "cross", "hex"]))
    shapes = {
        "none": lambda: np.ones_like(u),
        "slot": lambda: box(u, v, 0.6, 0.07),
        "cross": lambda: np.minimum(box(u, v, 0.42, 0.085, 0.03), box(u, v, 0.085, 0.42, 0.03)),
        "hex": lambda: hexagon + 0.5,
    }
    thing = blend(thing, base * 0.3, edge(shapes[recess](), 2 * px))
    marks = text(generator, int(generator.integers(3, 6)), 0.17, 0, 0, base * 0.6, 0.5, radius=0.62)
    return laid(generator, canvas, pose, thing, edge(np.maximum(hexagon, radius - 0.97), px), material, name, marks)


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


def key(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A key with cut bits and a pierced bow."""
    material = MATERIALS[generator.choice(["steel", "brass", "copper"])]
    name, base = shade(generator, [METAL_COLOURS[material.name]])
    pose = placed(generator, (0.75, 0.92))
    u, v = pose.local(canvas.x, canvas.y)
    px, wide = canvas.px / pose.scale, generator.uniform(0.13, 0.17)
    depths = generator.uniform(0, 0.09, 8)
    cut = np.interp(u, np.linspace(-0.1, 0.9, 8), depths).astype(np.float32)
    blade = np.maximum(box(u - 0.35, v, 0.6, wide, 0.03), v - wide + cut)
    bow = generator.uniform(0.33, 0.4)
    head = np.hypot(u + 0.58, v) - bow if generator.random() < 0.5 else box(u + 0.58, v, bow, bow, 0.16)
    distance = np.maximum(np.minimum(blade, head), 0.1 - np.hypot(u + 0.74, v))
    groove = np.exp(-(((v + 0.02) / 0.025) ** 2)) * (u > -0.1) * 0.35
    rim = np.exp(-(((distance + 0.03) / 0.02) ** 2)) * 0.25 * np.sign(-u - v)
    thing = (
        base * (1 - groove + rim + 0.05 * canvas.noise(generator, 6, 80) + 0.06 * canvas.noise(generator, 5))[..., None]
    )
    marks = text(generator, 3, 0.15, -0.5, 0.0, base * 0.55, 0.4)
    return laid(generator, canvas, pose, thing, edge(distance, px), material, name, marks)


def leaf(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A leaf with its veins, from spring to autumn."""
    name, base = shade(generator, ("green", "green", "yellow", "orange", "red"))
    pose = placed(generator, (0.75, 0.92))
    u, v = pose.local(canvas.x, canvas.y)
    v = v - np.float32(generator.uniform(-0.2, 0.2)) * (u * u - 0.3)
    along = np.clip((u + 0.8) / 1.75, 0, 1)
    wide = generator.uniform(0.36, 0.6) * np.clip(
        np.sin(np.pi * along ** np.float32(generator.uniform(0.65, 1))), 0, 1
    ) ** np.float32(0.8)
    teeth = generator.integers(10, 22) * (generator.random() < 0.5)
    wide = wide * (1 + 0.05 * np.cos(along * teeth * 2 * np.pi))
    distance = np.minimum(np.abs(v) - wide + 0.01, box(u + 0.85, v, 0.14, 0.022))
    veins = np.abs((u - 0.9 * np.abs(v)) / np.float32(generator.uniform(0.15, 0.24)) % 1 - 0.5) * 0.2
    pale = np.maximum(np.exp(-((veins / 0.012) ** 2)) * 0.6, np.exp(-((v / 0.02) ** 2)))
    thing = (
        base
        * (0.85 + 0.2 * canvas.noise(generator, 5) + 0.06 * canvas.noise(generator, 70) + 0.12 * np.sign(v))[..., None]
    )
    thing = blend(thing, np.clip(base * 1.5 + 0.08, 0, 1), 0.7 * pale)
    return laid(generator, canvas, pose, thing, edge(distance, 1.3 * canvas.px / pose.scale), MATERIALS["tissue"], name)


def pencil(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A sharpened pencil with a ferrule, an eraser and a printed name."""
    name, base = shade(generator, _ANY)
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
    name, tape = shade(generator, _ANY)
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


def label(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A printed label: lines of letters, a coloured band and a bar code."""
    name, base = shade(generator, ("white", "yellow", "beige", "white", "orange", "green", "blue"))
    pose = placed(generator, (0.8, 0.95), 0.5 if generator.random() < 0.7 else np.pi)
    u, v = pose.local(canvas.x, canvas.y)
    px, low = canvas.px / pose.scale, generator.uniform(0.62, 0.85)
    distance = box(u, v, 0.95, low, generator.uniform(0.01, 0.12))
    thing = base * (1 + 0.015 * canvas.noise(generator, 80))[..., None]
    ink = shade(generator, _INKS)[1]
    ink = ink * 0.35 if base.mean() < 0.6 else ink * 0.8
    top = np.abs(v + low - 0.12) - 0.13
    thing = blend(thing, shade(generator, ("red", "blue", "green", "black", "orange", "purple"))[1], edge(top, px))
    widths = np.repeat(generator.random(60) < 0.5, generator.integers(1, 3, 60))
    code = widths[np.clip(((u + 0.8) / 0.015).astype(int), 0, len(widths) - 1)] & (u > -0.8) & (u < 0.8 - 0.1)
    thing = blend(thing, np.array([0.1, 0.1, 0.1]), code * edge(np.abs(v - low + 0.2) - 0.11, px))
    parts = [
        part
        for row, height in zip((-0.28, -0.02, 0.2), generator.uniform(0.14, 0.22, 3), strict=True)
        for part in text(generator, int(generator.integers(4, 8)), height, 0, row, ink)
    ]
    return laid(generator, canvas, pose, thing, edge(distance, px), MATERIALS["paper"], name, parts)


def cable(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A cut cable: a sheath around insulated wires of copper strands."""
    name, base = shade(generator, ("black", "grey", "white", "orange", "red"))
    pose = placed(generator)
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


def capsule(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A capsule of two halves with printed letters."""
    name, base = shade(generator, ("red", "blue", "green", "orange", "yellow", "purple", "brown"))
    other = shade(generator, ("white", "yellow", "beige", "grey", "blue", "black"))[1]
    pose = placed(generator, (0.78, 0.92))
    u, v = pose.local(canvas.x, canvas.y)
    px, wide, joint = canvas.px / pose.scale, generator.uniform(0.3, 0.4), generator.uniform(-0.1, 0.2)
    distance = box(u, v, 0.95, wide, wide)
    round_ = np.sqrt(np.clip(1 - (v / np.float32(wide + 0.02)) ** 2, 0, 1))
    thing = blend(np.broadcast_to(base, (*u.shape, 3)), other, edge(u - joint, px))
    thing = thing * (0.5 + 0.55 * round_ - 0.3 * np.exp(-(((u - joint) / 0.02) ** 2)))[..., None]
    thing = thing + (0.3 * np.exp(-(((v + 0.5 * wide) / 0.05) ** 2)) * (np.abs(u) < 0.75))[..., None]
    inks = [
        np.array([0.12, 0.12, 0.14]) if colour.mean() > 0.35 else np.array([0.9, 0.9, 0.88]) for colour in (other, base)
    ]
    height = 0.55 * wide
    prints = text(generator, 3, height, joint - 0.45, 0, inks[0]) + text(generator, 2, height, joint + 0.4, 0, inks[1])
    return laid(generator, canvas, pose, thing, edge(distance, px), MATERIALS["gelatin"], name, prints)


OTHERS = (gear, bolt, circuit_board, key, leaf, pencil, zipper, label, cable, capsule)
