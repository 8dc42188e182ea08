"""Things in one piece that are not round."""

import numpy as np

from anomalib_zsad.synthetic.drawing.canvas import Canvas, blend, box, edge
from anomalib_zsad.synthetic.drawing.colours import MATERIALS, made_of, shade
from anomalib_zsad.synthetic.drawing.object_parts import text
from anomalib_zsad.synthetic.drawing.placing import laid, placed
from anomalib_zsad.synthetic.drawing.scene import Scene


def bolt(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """The hexagonal head of a bolt, with a recess and embossed marks."""
    material, name, base = made_of(generator, ["steel", "brass", "iron"])
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


def key(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A key with cut bits and a pierced bow."""
    material, name, base = made_of(generator, ["steel", "brass", "copper"])
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


def label(generator: np.random.Generator, canvas: Canvas) -> Scene:
    """A printed label: lines of letters, a coloured band and a bar code."""
    name, base = shade(generator, ("white", "yellow", "beige", "white", "orange", "green", "blue"))
    pose = placed(generator, (0.8, 0.95), 0.5 if generator.random() < 0.7 else np.pi)
    u, v = pose.local(canvas.x, canvas.y)
    px, low = canvas.px / pose.scale, generator.uniform(0.62, 0.85)
    distance = box(u, v, 0.95, low, generator.uniform(0.01, 0.12))
    thing = base * (1 + 0.015 * canvas.noise(generator, 80))[..., None]
    ink = shade(generator, ("black", "blue", "red", "green", "purple"))[1]
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


SINGLE = (bolt, key, leaf, label, capsule)
