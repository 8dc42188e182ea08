"""Defects of the parts of a thing: missing part, misplacement, misprint."""

from collections.abc import Sequence

import numpy as np

from anomalib_zsad.synthetic.drawing.canvas import blend, turned
from anomalib_zsad.synthetic.drawing.damage import Damage, blob
from anomalib_zsad.synthetic.drawing.scene import Part, Scene, paint


def missing_part(scene: Scene, generator: np.random.Generator, area: float) -> Damage:
    """A part, or a few beside one another, that is not there."""
    chosen = _neighbours(scene, generator, area, 6, "part") or _neighbours(scene, generator, area, 6, "print")
    return Damage(scene.composed(_without(scene, chosen)), _shapes(scene, chosen))


def misplacement(scene: Scene, generator: np.random.Generator, area: float) -> Damage:
    """A part that is shifted and turned."""
    chosen = _neighbours(scene, generator, area, 2, "part") or _neighbours(scene, generator, area, 5, "print")
    angle, far = generator.uniform(0, 2 * np.pi), min(0.1 + generator.uniform(0.3, 0.8) * chosen[0].reach, 0.25)
    turn = generator.choice([-1, 1]) * generator.uniform(0.35, 1.2)
    moved = [part.moved(far * np.cos(angle), far * np.sin(angle), turn) for part in chosen]
    return _within(scene, scene.composed([*_without(scene, chosen), *moved]), [*chosen, *moved])


def misprint(scene: Scene, generator: np.random.Generator, area: float) -> Damage:
    """Print that is faint, doubled, smeared, askew or blotted."""
    chosen = _neighbours(scene, generator, area, 6, "print")
    return _MISPRINTS[int(generator.integers(len(_MISPRINTS)))](scene, generator, chosen)


def _faint(scene: Scene, generator: np.random.Generator, chosen: Sequence[Part]) -> Damage:
    picture = scene.composed(_without(scene, chosen))
    _overprint(picture, scene, chosen, [float(generator.uniform(0, 0.25))] * len(chosen))
    return Damage(picture, _shapes(scene, chosen))


def _doubled(scene: Scene, generator: np.random.Generator, chosen: Sequence[Part]) -> Damage:
    right, down = _aside(generator, chosen[0])
    again = [part.moved(right, down, 0) for part in chosen]
    return _within(scene, scene.composed([*scene.parts, *again]), [*chosen, *again])


def _smeared(scene: Scene, generator: np.random.Generator, chosen: Sequence[Part]) -> Damage:
    right, down = _aside(generator, chosen[0])
    steps = [0.4 * number for number in range(1, 6)]
    trail = [part.moved(step * right, step * down, 0) for part in chosen for step in steps]
    picture = scene.composed()
    _overprint(picture, scene, trail, [0.8 - 0.25 * step for step in steps] * len(chosen))
    return _within(scene, picture, [*chosen, *trail])


def _askew(scene: Scene, generator: np.random.Generator, chosen: Sequence[Part]) -> Damage:
    turn = generator.choice([-1, 1]) * generator.uniform(0.5, 2.6)
    turned_parts = [part.moved(0, 0, turn) for part in chosen]
    picture = scene.composed([*_without(scene, chosen), *turned_parts])
    return _within(scene, picture, [*chosen, *turned_parts])


def _blotted(scene: Scene, generator: np.random.Generator, chosen: Sequence[Part]) -> Damage:
    part = chosen[0]
    patch = blob(scene, generator, scene.pose.world(part.u, part.v), 0.85 * part.reach * scene.pose.scale, 0.25)
    cover = np.zeros_like(scene.inside)
    cover[patch.window] = patch.edge(0.15)
    cover = cover * scene.inside
    return Damage(blend(scene.composed(), np.asarray(part.colour), 0.95 * cover), cover)


_MISPRINTS = (_faint, _doubled, _smeared, _askew, _blotted)


def _aside(generator: np.random.Generator, part: Part) -> tuple[float, float]:
    angle, far = generator.uniform(0, 2 * np.pi), part.reach * generator.uniform(0.25, 0.5)
    return far * np.cos(angle), far * np.sin(angle)


def _overprint(
    picture: np.ndarray,  # (H, W, 3), changed in place
    scene: Scene,
    parts: Sequence[Part],
    opacities: Sequence[float],
) -> None:
    for part, opacity in zip(parts, opacities, strict=True):
        paint(picture, scene.canvas, scene.pose, scene.lamp, part, opacity)


def _within(
    scene: Scene,
    picture: np.ndarray,  # (H, W, 3)
    parts: Sequence[Part],
) -> Damage:
    """Keep what lies on the thing of parts that were moved."""
    return Damage(blend(scene.composed(), picture, scene.inside), _shapes(scene, parts) * scene.inside)


def _without(scene: Scene, chosen: Sequence[Part]) -> list[Part]:
    return [part for part in scene.parts if part not in chosen]


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
