"""Round things."""

import numpy as np

from anomalib_zsad.synthetic.drawing.canvas import Canvas, blend, box, edge
from anomalib_zsad.synthetic.drawing.colours import ANY, MATERIALS, METAL_COLOURS, made_of, shade
from anomalib_zsad.synthetic.drawing.object_parts import disc, text
from anomalib_zsad.synthetic.drawing.placing import laid, placed
from anomalib_zsad.synthetic.drawing.scene import Part, Scene


def washer(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A washer of metal, rubber or plastic."""
    material, name, base = made_of(
        generator, ["steel", "brass", "copper", "rubber", "plastic"], ("black", "red", "white", "blue")
    )
    pose = placed(generator)
    u, v = pose.local(canvas.x, canvas.y)
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    inner, px = generator.uniform(0.35, 0.6), canvas.px / pose.scale
    lathe = np.interp(radius, np.linspace(0, 1.5, 120), generator.normal(0, 0.05, 120)).astype(np.float32)
    sheen = np.float32(0.3 * material.gloss) * np.cos(2 * angle + np.float32(generator.uniform(0, 6)))
    bevel = 0.22 * np.exp(-(((radius - 0.95) / 0.03) ** 2)) - 0.22 * np.exp(-(((radius - inner - 0.04) / 0.03) ** 2))
    thing = base * (1 + lathe + sheen + bevel)[..., None]
    return laid(generator, canvas, pose, thing, edge(radius - 1, px) * edge(inner - radius, px), material, name)


def tablet(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A pressed tablet, round or long, with a groove or specks and an imprint."""
    name, base = shade(generator, ("white", "pink", "yellow", "blue", "green", "orange"))
    pose = placed(generator)
    u, v = pose.local(canvas.x, canvas.y)
    power, slim = generator.choice([2.0, 2.0, 3.0]), generator.choice([1.0, generator.uniform(0.5, 0.75)])
    reach = (np.abs(u) ** power + np.abs(v / np.float32(slim)) ** power) ** np.float32(1 / power)
    height = 1 - 0.28 * np.clip(reach, 0, 1.2) ** 5 - 0.3 * np.exp(-(((reach - 0.86) / 0.025) ** 2))
    if generator.random() < 0.5:
        height = height - 0.35 * np.exp(-((u / 0.025) ** 2)) * (reach < 0.84)
    thing = base * (height + 0.025 * canvas.noise(generator, 90))[..., None]
    specks = generator.uniform(0, 0.6) * (generator.random() < 0.5)
    thing = blend(
        thing,
        shade(generator, ("red", "brown", "blue"))[1],
        specks * np.clip((canvas.noise(generator, 80) - 0.7) * 6, 0, 1),
    )
    count = int(generator.integers(2, 4))
    imprint = text(generator, count, generator.uniform(0.28, 0.34) * slim**0.5, 0, 0.0, base * 0.62, 0.2)
    return laid(
        generator,
        canvas,
        pose,
        thing,
        edge((reach - 1) * slim, canvas.px / pose.scale),
        MATERIALS["powder"],
        name,
        imprint,
    )


def biscuit(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A round or square biscuit with a scalloped rim and holes."""
    name, base = shade(generator, ("beige", "brown", "orange", "yellow"))
    pose = placed(generator)
    u, v = pose.local(canvas.x, canvas.y)
    scallops, square = generator.integers(16, 28), generator.random() < 0.4
    around = np.cos(np.arctan2(v, u) * scallops)
    distance = (box(u, v, 0.85, 0.85, 0.15) if square else np.hypot(u, v) - 0.95) - 0.035 * around
    rim = np.exp(-((distance / 0.12) ** 2))
    baked = 1 - 0.35 * rim + 0.06 * canvas.noise(generator, 60) + 0.1 * canvas.noise(generator, 8)
    thing = blend(base * baked[..., None], base * 0.5, 0.5 * np.clip((canvas.noise(generator, 40) - 0.6) * 4, 0, 1))
    if generator.random() < 0.5:  # Drops of chocolate or icing.
        drops, sweet = (
            generator.uniform(-0.6, 0.6, (10, 2)),
            shade(generator, ("brown", "black", "white", "red", "pink"))[1],
        )
        away = np.min([np.hypot(u - a, v - b) for a, b in drops.astype(np.float32)], axis=0)
        drop = sweet * (1 + 0.3 * np.cos(away * np.float32(30)))[..., None]
        thing = blend(thing, drop, edge(away - generator.uniform(0.06, 0.1), canvas.px / pose.scale))
    rings, hole = generator.integers(6, 10), generator.uniform(0.05, 0.075)
    spots = [(0.0, 0.0)] + [(0.55 * np.cos(a), 0.55 * np.sin(a)) for a in np.arange(rings) * 2 * np.pi / rings]
    holes = [Part(a, b, 1.3 * hole, disc(hole), base * 0.4, relief=-0.3) for a, b in spots]
    return laid(generator, canvas, pose, thing, edge(distance, canvas.px / pose.scale), MATERIALS["dough"], name, holes)


def button(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A button with two or four holes, plain, ringed or marbled."""
    name, base = shade(generator, ANY)
    pose = placed(generator)
    u, v = pose.local(canvas.x, canvas.y)
    radius = np.hypot(u, v)
    lip = generator.uniform(0.65, 0.85)
    height = (
        1
        + 0.2 * np.tanh((radius - lip) / 0.03) * (0.5 - 0.5 * (u + v))
        - 0.25 * np.exp(-(((radius - 0.98) / 0.05) ** 2))
    )
    thing = base * (height + np.float32(generator.choice([0.02, 0.16])) * canvas.noise(generator, 9))[..., None]
    away, reach = generator.uniform(0.2, 0.28), generator.uniform(0.09, 0.12)
    spots = [(-1, -1), (1, -1), (-1, 1), (1, 1)] if generator.random() < 0.6 else [(-1, 0), (1, 0)]
    pierced = base * 0.22 if base.mean() > 0.3 else base + 0.25
    holes = [Part(a * away, b * away, 1.2 * reach, disc(reach), pierced, relief=-0.4) for a, b in spots]
    return laid(
        generator, canvas, pose, thing, edge(radius - 1, canvas.px / pose.scale), MATERIALS["plastic"], name, holes
    )


def bottle_cap(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A crown cap with a printed emblem."""
    name, base = shade(generator, ("red", "blue", "green", "golden", "white", "black", "silver", "yellow"))
    pose = placed(generator)
    u, v = pose.local(canvas.x, canvas.y)
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    crimps = np.cos(21 * angle)
    outer = 0.96 + 0.035 * crimps
    skirt = np.clip((radius - 0.76) / 0.08, 0, 1)
    height = 1 + skirt * (0.3 * crimps - 0.15) + 0.15 * np.exp(-(((radius - 0.76) / 0.04) ** 2)) * (-u - v)
    ink = _legible(shade(generator, ANY)[1], base)
    thing = blend(base * height[..., None], ink, edge(np.abs(radius - generator.uniform(0.55, 0.68)) - 0.02, canvas.px))
    emblem = text(generator, int(generator.integers(1, 3)), generator.uniform(0.4, 0.55), 0, 0, ink)
    return laid(
        generator, canvas, pose, thing, edge(radius - outer, canvas.px / pose.scale), MATERIALS["steel"], name, emblem
    )


def coin(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A coin: an embossed emblem, a ring of letters and a milled rim."""
    material, name, base = made_of(generator, ["steel", "brass", "copper"])
    pose = placed(generator)
    u, v = pose.local(canvas.x, canvas.y)
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    points, reach = generator.integers(3, 9), generator.uniform(0.26, 0.36)
    star = radius - reach * (1 + np.float32(generator.uniform(0.1, 0.35)) * np.cos(points * angle))
    emblem = np.exp(-((star / 0.03) ** 2)) * np.cos(angle - 0.8) + 0.25 * (star < 0)
    milled = 0.25 * np.cos(90 * angle) * (radius > 0.93) + 0.3 * np.exp(-(((radius - 0.9) / 0.025) ** 2)) * np.cos(
        angle + 2.3
    )
    worn = 0.08 * canvas.noise(generator, 12) + 0.04 * canvas.noise(generator, 90)
    alloy, core = METAL_COLOURS[str(generator.choice(["steel", "brass", "copper"]))], generator.uniform(0.5, 0.6)
    metal = np.broadcast_to(base, (*u.shape, 3))
    if generator.random() < 0.4:  # Of two metals.
        metal = blend(metal, shade(generator, [alloy])[1], edge(radius - core, canvas.px / pose.scale))
    thing = metal * (0.95 + 0.3 * emblem + milled + worn)[..., None]
    ring = text(generator, int(generator.integers(8, 13)), 0.2, 0, 0, base * 1.35, 0.7, radius=0.7)
    return laid(generator, canvas, pose, thing, edge(radius - 1, canvas.px / pose.scale), material, name, ring)


def plate(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A glazed plate with a rim and an ornament of dots."""
    name, base = shade(generator, ("white", "white", "beige", "blue", "green", "grey", "pink"))
    pose = placed(generator, (0.72, 0.92))
    u, v = pose.local(canvas.x, canvas.y)
    radius, well = np.hypot(u, v), generator.uniform(0.58, 0.7)
    slope = np.exp(-(((radius - well) / 0.06) ** 2)) * (u + v) * 0.25 + 0.12 * np.exp(-(((radius - 0.97) / 0.03) ** 2))
    thing = base * (1 + slope - 0.08 * (radius > well))[..., None]
    ink = _legible(shade(generator, ("blue", "red", "green", "golden", "black", "purple"))[1], base)
    if generator.random() < 0.6:
        thing = blend(thing, ink, 0.9 * edge(np.abs(radius - generator.uniform(0.9, 0.94)) - 0.018, canvas.px))
    count, away, long = generator.integers(10, 17), (well + 0.93) / 2, generator.choice([1.0, 0.6])
    dots = [
        Part(away * np.cos(a), away * np.sin(a), 0.09, disc(0.075 * long, long), ink, a, role="print")
        for a in np.arange(count) * 2 * np.pi / count
    ]
    return laid(
        generator, canvas, pose, thing, edge(radius - 1, canvas.px / pose.scale), MATERIALS["ceramic"], name, dots
    )


def apple(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """An apple from the side or from above, blushed and with pale specks."""
    name, base = shade(generator, ("red", "green", "yellow"))
    pose = placed(generator, turn=0.6)
    u, v = pose.local(canvas.x, canvas.y)
    angle = np.arctan2(v, u)
    outline = (
        0.93 - 0.16 * np.exp(-(((angle + np.pi / 2) / 0.3) ** 2)) - 0.06 * np.exp(-(((angle - np.pi / 2) / 0.4) ** 2))
    )
    radius = np.hypot(u, v) / outline
    blush = np.clip(
        0.5 + canvas.noise(generator, 3) + 0.25 * np.sin(angle * 26 + 3 * canvas.noise(generator, 12)), 0, 1
    )
    thing = blend(
        np.broadcast_to(base, (*u.shape, 3)),
        shade(generator, ("red", "yellow", "orange"))[1],
        np.float32(generator.uniform(0.1, 0.7)) * blush,
    )
    specks = np.clip((canvas.noise(generator, 70) - 0.8) * 5, 0, 1)
    thing = blend(thing, np.array([0.9, 0.82, 0.6]), 0.5 * specks)
    round_ = np.sqrt(np.clip(1 - 0.85 * radius**2, 0.05, 1))
    thing = thing * (0.35 + 0.75 * round_)[..., None]
    dip = np.exp(-((np.hypot(u, (v + 0.72) * 1.6) / 0.2) ** 2))
    thing = blend(thing, base * 0.35, 0.7 * dip)
    inside = edge((radius - 1) * 0.9, canvas.px / pose.scale)
    stem = edge(box(u - 0.25 * (v + 0.7), v + 0.87, 0.035, 0.2, 0.02), canvas.px / pose.scale)
    return laid(
        generator,
        canvas,
        pose,
        blend(thing, np.array([0.3, 0.2, 0.1]), stem),
        np.maximum(inside, stem),
        MATERIALS["flesh"],
        name,
    )


def _legible(
    ink: np.ndarray,  # (3,)
    base: np.ndarray,  # (3,)
) -> np.ndarray:  # (3,)
    return ink if np.abs(ink - base).sum() > 0.6 else np.clip(1 - base.round(), 0.1, 0.9)


ROUND = (washer, tablet, biscuit, button, bottle_cap, coin, plate, apple)
