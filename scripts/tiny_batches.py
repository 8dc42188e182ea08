"""Batches for the small CLIP: parts of pictures and regions on them, captions, and which are true of which."""

from typing import NamedTuple

import numpy as np
import torch
from tiny_captions import Captions, truth
from tiny_pictures import VARIANTS, Pictures
from torch import Tensor
from torch.nn import functional as F

from anomalib_zsad.clip.named import CLIP_LOOK

IMAGE_SIZE, PATCH = 168, 14
"""Pixels."""


class Batch(NamedTuple):
    """Pictures, regions on them, and what is said of both."""

    images: Tensor  # (B, 3, H, W), normalised
    corner: tuple[int, int]  # their place on the grid of a whole picture, in patches
    regions: Tensor  # (R, N) weights of the patches, sum 1
    region_of: Tensor  # (R,) the picture of each region
    words: tuple[Tensor, Tensor]  # texts (P, T), ends (P,)
    states: slice  # those of them that tell the state of anything
    targets: list[Tensor]  # which are true of pictures (B, P) and of regions (R, P), bool


def make_batch(
    pictures: Pictures,
    captions: Captions,
    scenes: np.ndarray,
    size: int,
    generator: np.random.Generator,
    is_shuffled: bool,
) -> Batch:
    """Cut pictures, choose regions on them and caption both."""
    sides = (0.35, 0.85) if size < IMAGE_SIZE else (0.5, 1.0)
    cuts = [pictures.scene(number, size, sides, generator) for number in scenes]
    images, masks = torch.cat([cut for cut, _ in cuts]), torch.cat([cut for _, cut in cuts])
    patches = F.avg_pool2d(masks[:, None], PATCH)[:, 0]
    top, left = (int(at) for at in generator.integers((IMAGE_SIZE - size) // PATCH + 1, size=2))
    known = pictures.facts[scenes].reshape(-1, 3)
    facts = np.stack([_facts(row, cover, top, left) for row, cover in zip(known, patches.numpy(), strict=True)])
    regions, region_of, region_facts = _regions(patches, facts, generator)
    order = generator.permutation(len(facts)) if is_shuffled else np.arange(len(facts))
    told = facts[order]  # shuffled captions are those of other pictures, and taken for true of where they went
    if is_shuffled:
        region_facts = region_facts[generator.permutation(len(region_facts))]
    own = [(text, row, said) for row in told[::3] for text, said in [captions.write(row, generator)]]
    general = captions.categories(generator)
    states = captions.states(generator)
    texts, about, said = zip(*general, *states, *own, strict=True)
    words = _padded([captions.tokens(text) for text in texts])
    targets = [torch.from_numpy(truth(each, np.stack(about), np.stack(said))) for each in (told, region_facts)]
    named = slice(len(general), len(general) + len(states))
    return Batch(_coloured(images, generator), (top, left), regions, region_of, words, named, targets)


def _facts(
    known: np.ndarray,  # (3,)
    cover: np.ndarray,  # (gh, gw) share of each patch that is defective
    top: int,
    left: int,
) -> np.ndarray:
    category, material, defect = known
    if not cover.any():
        return np.array([category, material, 0, -1, -1, -1])
    grid = IMAGE_SIZE // PATCH
    middle = (np.argwhere(cover > 0.1 * cover.max()).mean(0) + 0.5 + (top, left)) / grid
    return np.array([category, material, 1, defect, *np.minimum(3 * middle, 2).astype(int)])


def _regions(
    patches: Tensor,  # (B, gh, gw) share of each patch that is defective
    facts: np.ndarray,  # (B, F)
    generator: np.random.Generator,
) -> tuple[Tensor, Tensor, np.ndarray]:
    weights, region_of, chosen = [], [], []
    for number, (cover, own) in enumerate(zip(patches, facts, strict=True)):
        sibling = number - number % VARIANTS + int(generator.integers(1, VARIANTS))
        hurt = cover if own[2] else patches[sibling]
        regions = [(hurt.clamp(max=0.5), own[2])] if hurt.max() > 0.1 else []
        defective, clean = (cover > 0.12).flatten().numpy(), (cover == 0).flatten().numpy()
        where_hurt = clean & (hurt > 0.12).flatten().numpy()
        for places, most in ((defective, 6), (where_hurt, 4), (clean, 6)):
            at = places.nonzero()[0]
            for patch in generator.choice(at, min(most, len(at)), replace=False):
                spot = torch.zeros_like(cover)
                spot.view(-1)[int(patch)] = 1
                regions.append((spot, int(places is defective)))
        for weight, state in regions:
            weights.append((weight / weight.sum()).flatten())
            region_of.append(number)
            chosen.append([*own[:2], state, own[3] if state else -1, -1, -1])
    return torch.stack(weights), torch.tensor(region_of), np.array(chosen)


def _coloured(images: Tensor, generator: np.random.Generator) -> Tensor:
    scenes = len(images) // VARIANTS  # the pictures of a scene change alike
    gain, shift, spread = (
        torch.from_numpy(generator.uniform(low, high, (scenes, n, 1, 1)).astype(np.float32)).repeat_interleave(
            VARIANTS, 0
        )
        for low, high, n in ((0.75, 1.3, 3), (-0.08, 0.08, 1), (0.4, 1.4, 1))
    )
    grey = images.mean(1, keepdim=True)
    images = ((grey + (images - grey) * spread) * gain + shift).clamp(0, 1)
    mean, std = (torch.tensor(each)[:, None, None] for each in (CLIP_LOOK.mean, CLIP_LOOK.std))
    return (images - mean) / std


def _padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    texts = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for number, row in enumerate(rows):
        texts[number, : len(row)] = torch.tensor(row)
    return texts, torch.tensor([len(row) - 1 for row in rows])
