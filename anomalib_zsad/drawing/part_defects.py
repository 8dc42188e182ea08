"""Defects of the parts of a thing: missing part, misplacement, misprint."""

from collections.abc import Sequence

import numpy as np

from anomalib_zsad.drawing.canvas import blend, turned
from anomalib_zsad.drawing.damage import Damage, blob
from anomalib_zsad.drawing.scene import Part, Scene, paint


def missing_part(scene: Scene, generator: np.random.Generator, area: float) -> Damage:
    """A part, or a few beside one another, that is not there."""
    chosen = _neighbours(scene, generator, area, 3, "part") or _neighbours(scene, generator, area, 4, "print")
    return Damage(scene.composed([part for part in scene.parts if part not in chosen]), _shapes(scene, chosen))


def misplacement(scene: Scene, generator: np.random.Generator, area: float) -> Damage:
    """A part that is shifted and turned."""
    chosen = _neighbours(scene, generator, area, 1, "part") or _neighbours(scene, generator, area, 3, "print")
    angle, far = generator.uniform(0, 2 * np.pi), 0.1 + generator.uniform(0.3, 0.8) * chosen[0].reach
    turn = generator.choice([-1, 1]) * generator.uniform(0.35, 1.2)
    moved = [part.moved(far * np.cos(angle), far * np.sin(angle), turn) for part in chosen]
    others = [part for part in scene.parts if part not in chosen]
    changed = blend(scene.composed(), scene.composed([*others, *moved]), scene.inside)
    return Damage(changed, np.maximum(_shapes(scene, chosen), _shapes(scene, moved)) * scene.inside)


def misprint(scene: Scene, generator: np.random.Generator, area: float) -> Damage:
    """Print that is faint, doubled, smeared, askew or blotted."""
    chosen = _neighbours(scene, generator, area, 4, "print")
    others = [part for part in scene.parts if part not in chosen]
    kind, angle = int(generator.integers(5)), generator.uniform(0, 2 * np.pi)
    far = chosen[0].reach * generator.uniform(0.25, 0.5)
    right, down = far * np.cos(angle), far * np.sin(angle)
    if kind == 0:
        picture = scene.composed(others)
        for part in chosen:
            paint(picture, scene.canvas, scene.pose, scene.lamp, part, opacity=float(generator.uniform(0, 0.25)))
        return Damage(picture, _shapes(scene, chosen))
    if kind == 1:
        doubled = [part.moved(right, down, 0) for part in chosen]
        picture = scene.composed([*scene.parts, *doubled])
    elif kind == 2:
        doubled = [
            part.moved(0.4 * number * right, 0.4 * number * down, 0) for part in chosen for number in range(1, 6)
        ]
        picture = scene.composed()
        for number, part in enumerate(doubled):
            paint(picture, scene.canvas, scene.pose, scene.lamp, part, opacity=0.75 - 0.1 * (number % 5))
    elif kind == 3:
        turn = generator.choice([-1, 1]) * generator.uniform(0.5, 2.6)
        doubled = [part.moved(0, 0, turn) for part in chosen]
        picture = scene.composed([*others, *doubled])
    else:
        x, y = scene.pose.world(chosen[0].u, chosen[0].v)
        patch = blob(scene, generator, (x, y), 0.85 * chosen[0].reach * scene.pose.scale, 0.25)
        picture, cover = scene.composed(), np.zeros_like(scene.inside)
        cover[patch.window] = patch.edge(0.15)
        colour = chosen[0].colour
        return Damage(blend(picture, np.asarray(colour), 0.95 * cover * scene.inside), cover * scene.inside)
    cover = np.maximum(_shapes(scene, chosen), _shapes(scene, doubled)) * scene.inside
    return Damage(blend(scene.composed(), picture, scene.inside), cover)


def _neighbours(scene: Scene, generator: np.random.Generator, area: float, most: int, role: str) -> list[Part]:
    """Choose a part in the picture, and those next to it until they cover the area."""
    parts = [
        part for part in scene.parts if part.role == role and max(map(abs, scene.pose.world(part.u, part.v))) < 0.9
    ]
    if not parts:
        return []
    first = parts[generator.integers(len(parts))]
    near = sorted(parts, key=lambda part: np.hypot(part.u - first.u, part.v - first.v))
    each = 0.3 * np.pi * (first.reach * scene.pose.scale) ** 2 / 4
    # One at least stays: a button without any hole would be another thing.
    return near[: int(np.clip(round(area / each), 1, max(min(most, len(parts) - 1), 1)))]


def _shapes(
    scene: Scene,
    parts: Sequence[Part],
) -> np.ndarray:  # (H, W) in [0, 1]
    cover = np.zeros_like(scene.inside)
    for part in parts:
        window = scene.window_of(part)
        u, v = scene.pose.local(scene.canvas.x[window], scene.canvas.y[window])
        u, v = turned(u - np.float32(part.u), v - np.float32(part.v), part.turn)
        cover[window] = np.maximum(cover[window], part.shape(u, v, scene.canvas.px / scene.pose.scale))
    return cover
