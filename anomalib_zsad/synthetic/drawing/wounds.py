"""Defects that change the shape of a thing: hole, dent, deformation, chipped edge."""

import numpy as np

from anomalib_zsad.synthetic.drawing.canvas import blend, mean_colour
from anomalib_zsad.synthetic.drawing.damage import Blob, Damage, apart, blob, core_of, radius_of, sample, spot
from anomalib_zsad.synthetic.drawing.scene import Scene


def hole(scene: Scene, generator: np.random.Generator, area: float) -> Damage:
    """A ragged hole that shows what is below, in the shade of its rim."""
    patch = blob(scene, generator, spot(scene, generator, radius_of(area)), 0.95 * radius_of(area), 0.2)
    picture, cover = scene.composed(), _laid(scene, patch, patch.edge(0.14))
    base = mean_colour(picture, cover)
    shade = 0.62 - 0.4 * np.clip(_towards_lamp(scene, patch), -1, 1)
    below = np.broadcast_to(scene.ground, picture.shape)[patch.window] * np.clip(shade, 0.1, 0.8)[..., None]
    torn = np.exp(-(((patch.reach - 1.02) / 0.1) ** 2))
    local = blend(picture[patch.window], apart(core_of(scene, base), base, 0.15), 0.7 * torn)
    return _filled(
        scene, picture, patch, blend(local, below, patch.edge(0.14)), np.clip((1.12 - patch.reach) / 0.06, 0, 1)
    )


def dent(scene: Scene, generator: np.random.Generator, area: float) -> Damage:
    """A hollow: dark on the side of the light, bright on the other."""
    radius = 0.9 * radius_of(area)
    patch = blob(scene, generator, spot(scene, generator, radius), radius, 0.08)
    picture = scene.composed()
    depth = np.exp(-((patch.reach / 0.62) ** 2))
    slope = _towards_lamp(scene, patch) * depth
    strength = np.float32(generator.uniform(4.2, 5.5) * scene.material.relief)
    local = _sampled(scene, picture, patch, 0.22 * depth, 0.22 * depth, towards=True)
    lit = (
        local * np.clip(1 - strength * slope, 0.15, 2)[..., None]
        + (0.35 * strength * np.clip(-slope, 0, 1) ** 1.5)[..., None] * 0.4
    )
    return _filled(scene, picture, patch, lit, np.clip((1.25 - patch.reach) / 0.15, 0, 1))


def deformation(scene: Scene, generator: np.random.Generator, area: float) -> Damage:
    """A place where the thing is pulled out of shape."""
    radius = 1.2 * radius_of(max(area, 0.012))
    patch = blob(scene, generator, spot(scene, generator, 0.6 * radius), radius, 0.08)
    picture = scene.composed()
    bump = np.clip(1 - patch.reach**2, 0, 1) ** 1.5
    angle, swirl = generator.uniform(0, 2 * np.pi), generator.choice([-1, 1]) * generator.uniform(0.8, 1.6)
    shift = generator.uniform(0.35, 0.6)
    right = np.float32(shift * np.cos(angle)) * bump - np.float32(swirl) * bump * patch.v
    down = np.float32(shift * np.sin(angle)) * bump + np.float32(swirl) * bump * patch.u
    local = _sampled(scene, picture, patch, right, down)
    fold = np.sin(4 * (patch.u * np.float32(np.cos(angle)) + patch.v * np.float32(np.sin(angle))))
    lit = local * (1 + 0.5 * fold * np.clip(1.4 * bump, 0, 1))[..., None]
    return _filled(scene, picture, patch, lit, np.clip((1 - patch.reach) / 0.08, 0, 1))


def chipped_edge(scene: Scene, generator: np.random.Generator, area: float) -> Damage:
    """A piece broken off the outline: the ground shows, and a strip of the core."""
    rim, radius = _on_outline(scene, generator), 1.35 * radius_of(area)
    patch = blob(scene, generator, rim, radius, 0.22, 1.8)
    picture, cover = scene.composed(), _laid(scene, patch, patch.edge())
    base = mean_colour(picture, cover)
    rough = 1 + 0.15 * scene.canvas.noise(generator, 60)[patch.window]
    core = apart(core_of(scene, base), base, 0.18) * (rough - 0.15 * _towards_lamp(scene, patch))[..., None]
    below = np.broadcast_to(scene.ground, picture.shape)[patch.window]
    strip = np.clip((patch.reach - np.float32(generator.uniform(0.5, 0.75))) / 0.08, 0, 1)
    return _filled(scene, picture, patch, blend(below, core, strip), patch.edge(0.12))


def _on_outline(scene: Scene, generator: np.random.Generator) -> tuple[float, float]:
    turn = generator.uniform(0, 2 * np.pi)
    steps = np.linspace(0.0, 1.4, 140)[:, None] * np.array([np.cos(turn), np.sin(turn)])
    ray = np.array([scene.pose.x, scene.pose.y]) + steps
    last = (sample(scene, scene.inside, ray) > 0.5).nonzero()[0]
    x, y = ray[last[-1] if len(last) else 0]
    return float(x), float(y)


def _towards_lamp(scene: Scene, patch: Blob) -> np.ndarray:  # (h, w), 1 on the outline towards the light
    return patch.u * np.float32(scene.lamp[0]) + patch.v * np.float32(scene.lamp[1])


def _laid(
    scene: Scene,
    patch: Blob,
    cover: np.ndarray,  # (h, w)
) -> np.ndarray:  # (H, W)
    whole = np.zeros_like(scene.inside)
    whole[patch.window] = cover
    return whole * scene.inside


def _filled(
    scene: Scene,
    picture: np.ndarray,  # (H, W, 3), changed in place
    patch: Blob,
    local: np.ndarray,  # (h, w, 3)
    cover: np.ndarray,  # (h, w)
) -> Damage:
    cover = cover * scene.inside[patch.window]
    picture[patch.window] = blend(picture[patch.window], local.astype(np.float32, copy=False), cover)
    return Damage(picture, _laid(scene, patch, cover))


def _sampled(
    scene: Scene,
    picture: np.ndarray,  # (H, W, 3)
    patch: Blob,
    right: np.ndarray,  # (h, w), in radii
    down: np.ndarray,  # (h, w)
    towards: bool = False,
) -> np.ndarray:  # (h, w, 3)
    """Read the picture at places shifted to the right and down, or away from the patch's middle."""
    if towards:
        right, down = right * patch.u, down * patch.v
    pixels, last = patch.radius / scene.canvas.px, scene.canvas.size - 1.001
    rows, columns = patch.window
    x = np.clip(np.arange(columns.start, columns.stop) + right * np.float32(pixels), 0, last)
    y = np.clip(np.arange(rows.start, rows.stop)[:, None] + down * np.float32(pixels), 0, last)
    left, top = x.astype(int), y.astype(int)
    a, b = (x - left)[..., None].astype(np.float32), (y - top)[..., None].astype(np.float32)
    upper = picture[top, left] * (1 - a) + picture[top, left + 1] * a
    lower = picture[top + 1, left] * (1 - a) + picture[top + 1, left + 1] * a
    return upper * (1 - b) + lower * b
