"""Surfaces that fill the picture."""

import numpy as np

from anomalib_zsad.synthetic.drawing.canvas import Canvas, Pose, blend, box, cells, edge
from anomalib_zsad.synthetic.drawing.colours import ANY, MATERIALS, made_of, shade
from anomalib_zsad.synthetic.drawing.object_parts import disc, text
from anomalib_zsad.synthetic.drawing.placing import surface
from anomalib_zsad.synthetic.drawing.scene import Part, Scene


def _spread(generator: np.random.Generator, canvas: Canvas, turn: float = np.pi) -> tuple[np.ndarray, np.ndarray, Pose]:
    pose = Pose(generator.uniform(-0.3, 0.3), generator.uniform(-0.3, 0.3), 1.0, generator.uniform(-turn, turn))
    return *pose.local(canvas.x, canvas.y), pose


def cloth(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """Woven cloth: threads over and under one another, at times checked or striped."""
    material = MATERIALS[generator.choice(["cotton", "linen", "polyester"])]
    u, v, _ = _spread(generator, canvas)
    period = generator.uniform(0.075, 0.13)
    u, v = u + 0.02 * canvas.noise(generator, 5), v + 0.02 * canvas.noise(generator, 5)
    p, q = u * np.float32(np.pi / period), v * np.float32(np.pi / period)
    over = np.sin(p) * np.sin(q) > 0
    height = np.where(over, np.abs(np.cos(q)) ** 2, np.abs(np.cos(p)) ** 2)
    name, warp = shade(generator, ANY)
    weft = shade(generator, ANY)[1] if generator.random() < 0.3 else warp * np.float32(generator.uniform(0.85, 1.15))
    stripe = generator.uniform(0.3, 0.7)
    other, checked = shade(generator, ANY)[1], generator.random()
    if checked < 0.4:
        warp = blend(np.broadcast_to(warp, (*u.shape, 3)), other, 0.6 * (np.sin(u * np.float32(np.pi / stripe)) > 0))
    if checked < 0.2:
        weft = blend(np.broadcast_to(weft, (*u.shape, 3)), other, 0.6 * (np.sin(v * np.float32(np.pi / stripe)) > 0))
    colour = (
        np.where(over[..., None], warp, weft)
        * (0.5 + 0.6 * (1 - height) + 0.08 * canvas.noise(generator, 90))[..., None]
    )
    return surface(generator, canvas, colour, material, name)


def wood(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """Planed wood: bent rings, fine fibres, and at times knots, a joint between boards, or a stamp."""
    material = MATERIALS[generator.choice(["oak", "pine", "walnut"])]
    name, base = shade(
        generator, {"oak": ("beige", "brown"), "pine": ("beige", "yellow"), "walnut": ("brown",)}[material.name]
    )
    u, v, pose = _spread(generator, canvas)
    bend = 0.25 * canvas.noise(generator, 3) + np.float32(generator.uniform(-0.2, 0.2)) * v * v
    dark = np.zeros_like(u)
    for _ in range(generator.integers(0, 3)):
        a, b, reach = *generator.uniform(-0.8, 0.8, 2), generator.uniform(0.05, 0.12)
        distance = np.hypot((u - a) * 1.3, (v - b) * 0.7)
        knot = np.exp(-((distance / reach) ** 2))
        bend = bend + np.float32(2.5 * reach) * np.exp(-((distance / (2 * reach)) ** 2)) * np.sign(u - a)
        dark = np.maximum(dark, knot * (0.8 + 0.2 * np.sin(distance * np.float32(120))))
    rings = np.sin((u + bend) * np.float32(2 * np.pi / generator.uniform(0.12, 0.3)))
    fibres = np.sin(u * np.float32(150) + 6 * canvas.noise(generator, 24)) + canvas.noise(generator, 70)
    colour = base * (1 + np.float32(generator.uniform(0.06, 0.16)) * rings + 0.05 * fibres)[..., None]
    colour = blend(colour, base * 0.45, 0.8 * dark)
    if generator.random() < 0.35:
        colour = colour * (1 - 0.6 * edge(np.abs(u - generator.uniform(-0.6, 0.6)) - 0.008, canvas.px))[..., None]
    stamp = text(
        generator,
        4,
        generator.uniform(0.12, 0.2),
        generator.uniform(-0.4, 0.4),
        generator.uniform(-0.4, 0.4),
        base * 0.4,
    )
    return surface(
        generator, canvas, colour, material, name, parts=stamp if generator.random() < 0.3 else (), pose=pose
    )


def leather(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """Grained leather: small cells with dark seams, at times two pieces of it stitched together."""
    dyes = ("brown", "black", "red", "green", "blue", "beige", "orange", "white")
    name, base = shade(generator, dyes)
    u, v, _ = _spread(generator, canvas)
    wobble = 0.05 * canvas.noise(generator, 12)
    lean = np.float32(generator.uniform(0.8, 1.25))
    seam, number = cells(generator, u + wobble, (v - wobble) * lean, generator.uniform(0.07, 0.13))
    height = np.clip(seam / np.float32(0.03), 0, 1)
    where, step = generator.uniform(-0.5, 0.5), generator.uniform(0.1, 0.16)
    other, thread = (shade(generator, names)[1] for names in (dyes, ("white", "beige", "yellow", "black")))
    joined = generator.random()
    dye = blend(np.broadcast_to(base, (*u.shape, 3)), other, edge(u - where, canvas.px)) if joined < 0.4 else base
    colour = dye * (0.62 + 0.42 * height + 0.16 * (number - 0.5))[..., None]
    if joined < 0.6:
        beside = u - where - 0.05
        colour = colour * (1 - 0.45 * np.exp(-(((u - where) / 0.03) ** 2)))[..., None]
        stitch = box(beside, (v + 4) % step - step / 2, 0.016, 0.36 * step, 0.015)
        colour = blend(colour, thread, edge(stitch, canvas.px))
    return surface(generator, canvas, colour, MATERIALS["cowhide"], name)


def stone(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """Polished granite: grains of three colours."""
    name, base = shade(generator, ("grey", "pink", "black", "beige", "green"))
    colour = np.broadcast_to(base, (canvas.size, canvas.size, 3))
    coarse = generator.uniform(0.7, 1.4)
    for columns, level, factor in ((44, 0.35, 0.7), (60, 0.45, 1.3), (70, 0.6, 0.35)):
        grains = np.clip((canvas.noise(generator, int(columns * coarse)) - level) * 6, 0, 1)
        colour = blend(colour, np.clip(base * factor + (0.1 if factor > 1 else 0), 0, 0.95), grains)
    return surface(generator, canvas, colour, MATERIALS["granite"], name)


def marble(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """Marble: soft clouds and veins, which look like cracks and are none."""
    name, base = shade(generator, ("white", "beige", "green", "grey", "black", "pink"))
    u, v, _ = _spread(generator, canvas)
    warp = 0.5 * canvas.noise(generator, 4) + 0.15 * canvas.noise(generator, 14)
    vein = np.exp(-((np.sin(u * np.float32(generator.uniform(2, 4)) + 3 * warp) / np.float32(0.09)) ** 2))
    fine = np.exp(-((np.sin(v * np.float32(5) + 5 * warp) / np.float32(0.05)) ** 2))
    dark = base.mean() < 0.35
    ink = np.clip(base + 0.4, 0, 1) if dark else base * np.float32(generator.uniform(0.55, 0.8))
    colour = base * (1 + 0.12 * canvas.noise(generator, 5))[..., None]
    strength = np.clip(0.5 + canvas.noise(generator, 5), 0, 1)
    colour = blend(blend(colour, ink, 0.6 * vein * strength), ink, 0.3 * fine * (1 - strength))
    return surface(generator, canvas, colour, MATERIALS["marble"], name)


def tile(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """Glazed tiles with joints, each of a slightly different colour."""
    name, base = shade(generator, ("white", "blue", "green", "red", "grey", "beige", "yellow", "purple"))
    u, v, _ = _spread(generator, canvas)
    side = generator.uniform(0.38, 0.75)
    joint = generator.uniform(0.012, 0.03)
    number = (np.floor(u / side).astype(int) * 7 + np.floor(v / side).astype(int) * 13) % 64
    tints = 1 + generator.normal(0, 0.07, (64, 1)) + generator.normal(0, 0.02, (64, 3))
    if generator.random() < 0.3:
        tints[::2] *= generator.uniform(0.55, 0.8)
    p, q = (u / side) % 1 - 0.5, (v / side) % 1 - 0.5
    distance = box(p, q, 0.5 - joint / side, 0.5 - joint / side, 0.05) * np.float32(side)
    glaze = (
        base * tints.astype(np.float32)[number] * (1 + 0.06 * (p + q) + 0.05 * canvas.noise(generator, 9))[..., None]
    )
    glaze = glaze * (1 + 0.25 * np.exp(-(((distance + 0.03) / 0.012) ** 2)) * np.sign(-p - q))[..., None]
    if generator.random() < 0.35:
        glaze = blend(
            glaze, shade(generator, ANY)[1], 0.7 * edge(np.abs(np.hypot(p, q) - 0.25) * side - 0.02, canvas.px)
        )
    grout = (
        shade(generator, ("white", "grey", "beige", "black"))[1] * (1 + 0.1 * canvas.noise(generator, 80))[..., None]
    )
    return surface(generator, canvas, blend(grout, glaze, edge(distance, canvas.px)), MATERIALS["ceramic"], name)


def brick(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A wall of bricks in mortar."""
    name, base = shade(generator, ("red", "orange", "brown", "beige", "grey"))
    u, v, _ = _spread(generator, canvas, 0.25)
    height, length = generator.uniform(0.2, 0.3), generator.uniform(0.5, 0.7)
    u, v = u + 0.012 * canvas.noise(generator, 30), v + 0.012 * canvas.noise(generator, 30)
    row = np.floor(v / height)
    along = u / length + 0.5 * (row % 2)
    number = (np.floor(along).astype(int) * 5 + row.astype(int) * 11) % 64
    tints = (1 + generator.normal(0, 0.13, (64, 1)) + generator.normal(0, 0.02, (64, 3))).astype(np.float32)
    distance = box(
        (along % 1 - 0.5) * length, (v / height) % 1 * height - height / 2, length / 2 - 0.02, height / 2 - 0.02, 0.02
    )
    rough = 0.12 * canvas.noise(generator, 80) + 0.1 * canvas.noise(generator, 20)
    clay = base * tints[number] * (1 + rough)[..., None]
    mortar = shade(generator, ("grey", "white", "beige"))[1] * (0.8 + rough)[..., None]
    return surface(generator, canvas, blend(mortar, clay, edge(distance, 1.5 * canvas.px)), MATERIALS["clay"], name)


def brushed_metal(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A brushed sheet of metal, at times with rivets or stamped letters."""
    material, name, base = made_of(generator, ["steel", "aluminium", "brass", "copper"])
    rotated = generator.random() < 0.5
    streaks = 0.10 * canvas.noise(generator, 3, 110) + 0.06 * canvas.noise(generator, 6, 60)
    streaks = streaks.T if rotated else streaks
    sheen = np.cos((canvas.x if rotated else canvas.y) * np.float32(generator.uniform(1, 4)) + generator.uniform(0, 6))
    colour = base * (1 + streaks + np.float32(generator.uniform(0.05, 0.18)) * sheen)[..., None]
    pose, parts = Pose(0, 0, 1, generator.uniform(-0.3, 0.3)), []
    kind, inset, reach = generator.random(), generator.uniform(0.6, 0.8), generator.uniform(0.06, 0.1)
    if kind < 0.4:
        parts = [
            Part(a * inset, b * inset, reach, disc(0.9 * reach), base * 0.95, relief=0.5)
            for a in (-1, 1)
            for b in (-1, 1)
        ]
    elif kind < 0.7:
        parts = text(generator, 5, generator.uniform(0.16, 0.24), 0.0, generator.uniform(-0.3, 0.3), base * 0.55, 0.3)
    return surface(generator, canvas, colour, material, name, parts=parts, pose=pose)


def carpet(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A tufted carpet, plain or with bands, rings or diamonds."""
    name, base = shade(generator, ANY)
    other = shade(generator, ANY)[1]
    u, v, _ = _spread(generator, canvas)
    u, v = u + 0.03 * canvas.noise(generator, 50), v + 0.03 * canvas.noise(generator, 50)
    period = generator.uniform(0.4, 0.9)
    pattern = {
        "plain": lambda: np.full_like(u, -1),
        "bands": lambda: np.sin(u * 2 * np.pi / period),
        "rings": lambda: np.sin(np.hypot(u, v) * 2 * np.pi / period),
        "diamonds": lambda: np.sin(u * 2 * np.pi / period) + np.sin(v * 2 * np.pi / period) - 0.4,
    }[str(generator.choice(["plain", "bands", "rings", "diamonds"]))]()
    tufts = 0.22 * canvas.noise(generator, 100) + 0.18 * canvas.noise(generator, 60)
    colour = (
        blend(np.broadcast_to(base, (*u.shape, 3)), other, np.clip(0.5 + pattern * 8, 0, 1)) * (0.92 + tufts)[..., None]
    )
    return surface(generator, canvas, colour, MATERIALS["wool"], name)


def sponge(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """Foam with open pores, which look like holes and are none."""
    name, base = shade(generator, ("yellow", "blue", "green", "pink", "orange", "grey"))
    u, v, _ = _spread(generator, canvas)
    wobble = 0.03 * canvas.noise(generator, 16)
    seam, number = cells(generator, u + wobble, v - wobble, generator.uniform(0.13, 0.19))
    pores = np.clip((seam - 0.035 - 0.12 * (1 - number)) / 0.02, 0, 1)
    colour = base * (1 + 0.1 * canvas.noise(generator, 70))[..., None]
    return surface(generator, canvas, colour * (1 - 0.5 * pores)[..., None], MATERIALS["foam"], name)


def knitwear(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """Knitted wool: columns of stitches, at times striped."""
    name, base = shade(generator, ANY)
    other = shade(generator, ANY)[1] if generator.random() < 0.4 else base
    u, v, _ = _spread(generator, canvas)
    u, v = u + 0.02 * canvas.noise(generator, 5), v + 0.02 * canvas.noise(generator, 5)
    wide = generator.uniform(0.12, 0.2)
    high = 0.75 * wide
    p = (u / wide) % 1 - 0.5
    q = v / high - np.abs(p) * 1.4
    strand = np.abs(np.sin(q * np.float32(np.pi))) * (1 - (np.abs(np.abs(p) - 0.25) * 3.4) ** 2)
    twist = 0.08 * np.sin((q * 3 + p * 8) * np.float32(2 * np.pi))
    stripe = np.floor(q / generator.integers(3, 7)) % 2
    colour = np.where((stripe > 0)[..., None], base, other) * (0.42 + 0.6 * np.clip(strand, 0, 1) + twist)[..., None]
    return surface(generator, canvas, colour, MATERIALS["wool"], name)


def mesh(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A grid of wires over a darker or lighter ground."""
    material, name, base = made_of(generator, ["steel", "brass", "copper", "plastic"], ("black",))
    u, v, _ = _spread(generator, canvas)
    lean = np.float32(generator.uniform(-0.35, 0.35))
    u, v = u + lean * v + 0.01 * canvas.noise(generator, 4), v + 0.01 * canvas.noise(generator, 4)
    period = generator.uniform(0.16, 0.3)
    width = period * generator.uniform(0.14, 0.24)
    below = shade(
        generator,
        ("white", "beige", "blue", "green") if name == "black" else ("black", "brown", "blue", "green", "white"),
    )[1]
    below = below * (1 + 0.1 * canvas.noise(generator, 8))[..., None]
    p, q = ((w / period) % 1 * period - period / 2 for w in (u, v))
    over = (np.floor(u / period) + np.floor(v / period)) % 2 > 0
    wires = [
        (edge(np.abs(w) - width, canvas.px), 0.55 + 0.6 * np.sqrt(np.clip(1 - (w / width) ** 2, 0, 1))) for w in (p, q)
    ]
    shadow = np.maximum(*(edge(np.abs(w - 0.02) - width, 4 * canvas.px) for w in (p, q)))
    colour = below * (1 - 0.45 * shadow)[..., None]
    for first in (True, False):
        for (cover, shine), which in zip(wires, (over, ~over), strict=True):
            colour = blend(colour, base * shine[..., None], cover if first else cover * which)
    return surface(generator, canvas, colour, material, name, below)


TEXTURES = (cloth, wood, leather, stone, marble, tile, brick, brushed_metal, carpet, sponge, knitwear, mesh)
