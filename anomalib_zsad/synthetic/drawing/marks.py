"""Defects that change the colour of a surface: scratch, crack, stain, contamination, colour spot, burn."""

import numpy as np

from anomalib_zsad.synthetic.drawing.canvas import blend, mean_colour
from anomalib_zsad.synthetic.drawing.colours import COLOURS
from anomalib_zsad.synthetic.drawing.damage import Damage, apart, blob, core_of, radius_of, spot, walk
from anomalib_zsad.synthetic.drawing.scene import Scene


def scratch(scene: Scene, generator: np.random.Generator, area: float) -> Damage:
    """One to three lines that bend a little: bright in metal, pale in what has a paler core."""
    width = generator.uniform(0.035, 0.06)
    count = int(generator.integers(1, 4)) if area > 0.008 else 1
    length = float(np.clip(4 * area / width / count, 0.25, 1.3))
    middle, bend = spot(scene, generator, 0.35 * length), generator.uniform(0, 0.15)
    line = walk(generator, middle, length, bend)
    side = np.array([-(line[-1] - line[0])[1], (line[-1] - line[0])[0]]) / length
    lines = [line + side * number * generator.uniform(2, 4) * width for number in range(count)]
    widths = [width * factor for factor in (1.0, 0.7, 0.8)[:count]]
    picture = scene.composed()
    cover = scene.canvas.strokes(lines, widths) * scene.inside
    base = mean_colour(picture, cover)
    colour = apart(0.6 * core_of(scene, base) + 0.4 * base, base, 0.2)
    return _engraved(scene, picture, cover, colour, 0.9)


def crack(scene: Scene, generator: np.random.Generator, area: float) -> Damage:
    """A dark jagged line that branches."""
    width = generator.uniform(0.035, 0.055)
    length = float(np.clip(3 * area / width, 0.3, 1.5))
    middle = spot(scene, generator, 0.35 * length)
    stem = walk(generator, middle, length, 0.15, jitter=0.55)
    lines, widths = [stem], [width]
    for _ in range(generator.integers(1, 4)):
        root = int(generator.integers(3, 21))
        branch = walk(generator, (0, 0), length * generator.uniform(0.2, 0.5), 0.15, jitter=0.55, steps=12)
        lines.append(branch - branch[0] + stem[root])
        widths.append(0.7 * width)
    picture = scene.composed()
    cover = scene.canvas.strokes(lines, widths) * scene.inside
    base = mean_colour(picture, cover)
    return _engraved(scene, picture, cover, apart(base * generator.uniform(0.2, 0.5), base, 0.2), 0.95, rim=1.25)


def stain(scene: Scene, generator: np.random.Generator, area: float) -> Damage:
    """A translucent patch with a darker rim, at times with drops beside it."""
    radius = 0.85 * radius_of(area)
    middle = spot(scene, generator, radius)
    patches = [(middle, radius)]
    for _ in range(generator.integers(0, 4)):
        away = generator.uniform(1.2, 1.9) * radius * np.array([np.cos(a := generator.uniform(0, 6.3)), np.sin(a)])
        patches.append(((middle[0] + away[0], middle[1] + away[1]), radius * generator.uniform(0.15, 0.35)))
    cover, rim = np.zeros_like(scene.inside), np.zeros_like(scene.inside)
    for centre, size in patches:
        patch = blob(scene, generator, centre, size, 0.22)
        cover[patch.window] = np.maximum(cover[patch.window], patch.edge(0.15))
        rim[patch.window] = np.maximum(rim[patch.window], np.exp(-(((patch.reach - 0.92) / 0.1) ** 2)))
    picture, cover = scene.composed(), cover * scene.inside
    base = mean_colour(picture, cover)
    ink = np.array([(0.30, 0.17, 0.07), (0.05, 0.05, 0.05), (0.12, 0.14, 0.45), (0.35, 0.38, 0.12), (0.5, 0.22, 0.1)])
    opacity = generator.uniform(0.6, 0.85)
    colour = apart(ink[generator.integers(len(ink))], base, 0.3)
    strength = cover * np.float32(opacity) * (0.85 + 0.15 * scene.canvas.noise(generator, 12)) + 0.25 * rim * cover
    return Damage(blend(picture, colour, np.clip(strength, 0, 1)), cover)


def contamination(scene: Scene, generator: np.random.Generator, area: float) -> Damage:
    """Something that does not belong: a curled fibre, or a heap of particles."""
    picture = scene.composed()
    colour = np.array(list(COLOURS.values())[generator.integers(12)])
    if generator.random() < 0.5:
        width = generator.uniform(0.04, 0.06)
        length = float(np.clip(4 * area / width, 0.35, 1.8))
        middle = spot(scene, generator, 0.2 * length)
        cover = scene.canvas.strokes([walk(generator, middle, length, generator.uniform(0.6, 1.3), steps=48)], [width])
    else:
        radius = radius_of(min(2.5 * area, 0.09))
        heap, count = np.array(spot(scene, generator, radius)), int(generator.integers(8, 26))
        away = generator.normal(0, 0.45 * radius, (count, 2))
        sizes = np.sqrt(4 * area / count) * generator.uniform(0.6, 1.4, count)
        cover = scene.canvas.strokes([np.stack([heap + d, heap + d * 1.02]) for d in away], list(sizes))
    cover = cover * scene.inside
    base = mean_colour(picture, cover)
    colour = apart(0.75 * colour + 0.25 * base, base, 0.22)
    shadow = np.roll(cover, _away_from_lamp(scene, 0.022), (0, 1)) * scene.inside
    picture = blend(picture, picture * np.float32(0.55), shadow * (1 - cover))
    light = 1 + 0.25 * (cover - np.roll(cover, _away_from_lamp(scene, -0.012), (0, 1)))
    return Damage(blend(picture, colour * light[..., None], cover), np.maximum(cover, 0.9 * shadow))


def colour_spot(scene: Scene, generator: np.random.Generator, area: float) -> Damage:
    """A patch of a wrong colour, or bleached, through which the surface shows."""
    patch = blob(scene, generator, spot(scene, generator, radius_of(area)), radius_of(area), 0.1)
    picture, cover = scene.composed(), np.zeros_like(scene.inside)
    cover[patch.window] = patch.edge(generator.uniform(0.06, 0.5))
    cover = cover * scene.inside
    base = mean_colour(picture, cover)
    choices = [np.array(colour) for colour in list(COLOURS.values())[:12]] + [base * 0.35 + 0.6]
    colour = apart(0.65 * choices[generator.integers(len(choices))] + 0.35 * base, base, 0.18)
    grey = picture.mean(-1, keepdims=True) / max(float(base.mean()), 0.05)
    return Damage(blend(picture, colour * np.clip(0.35 + 0.65 * grey, 0.3, 1.5), cover * np.float32(0.85)), cover)


def burn(scene: Scene, generator: np.random.Generator, area: float) -> Damage:
    """A charred patch with a brown halo; grey ash on what is dark itself."""
    patch = blob(scene, generator, spot(scene, generator, radius_of(area)), 0.95 * radius_of(area), 0.2)
    picture, cover = scene.composed(), np.zeros_like(scene.inside)
    cover[patch.window] = np.clip((1.25 - patch.reach) / np.float32(0.5), 0, 1)
    heat = np.zeros_like(cover)
    heat[patch.window] = np.clip(
        (1.0 - patch.reach + 0.15 * scene.canvas.noise(generator, 40)[patch.window]) / 0.35, 0, 1
    )
    cover = cover * scene.inside
    base = mean_colour(picture, cover)
    char = apart(base * np.array([1, 0.85, 0.7]) * generator.uniform(0.08, 0.5), base, 0.2)
    halo = blend(picture, np.array([0.36, 0.19, 0.07]), float(generator.uniform(0.4, 0.75)) * cover)
    return Damage(blend(halo, char, heat * cover), cover)


def _engraved(
    scene: Scene,
    picture: np.ndarray,  # (H, W, 3)
    cover: np.ndarray,  # (H, W)
    colour: np.ndarray,  # (3,)
    opacity: float,
    rim: float = 0.5,
) -> Damage:
    """Cut lines into a surface: the wall away from the light is darker or, with rim above 1, brighter."""
    wall = np.roll(cover, _away_from_lamp(scene, 0.014), (0, 1)) * scene.inside
    picture = blend(picture, np.clip(picture * np.float32(rim) + (0.08 if rim > 1 else 0), 0, 1), 0.8 * wall)
    return Damage(blend(picture, colour, cover * np.float32(opacity)), np.maximum(cover, wall))


def _away_from_lamp(scene: Scene, distance: float) -> tuple[int, int]:  # rows and columns
    across, down = scene.lamp
    pixels = distance / scene.canvas.px
    return round(-down * pixels), round(-across * pixels)
