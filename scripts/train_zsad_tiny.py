"""Train the small CLIP `zsad-tiny` as it was trained: contrastively, on drawn pictures and captions, on a CPU.

    python scripts/train_zsad_tiny.py --cache /tmp/zsad-tiny --out zsad-tiny.safetensors

The pictures are drawn into the cache first (several gigabytes). A run that was interrupted goes on from its last
checkpoint there. MODEL_CARD.md beside the weights tells what came of it.
"""

import argparse
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tiny_batches import PATCH, Batch, make_batch
from tiny_captions import UNKNOWN, Captions
from tiny_model import TinyClip, centre, whiten
from tiny_pictures import Pictures, draw_pictures, order
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.synthetic.drawing import SEEN

CONTEXT_SHIFT = 16
"""Captions start at a random position below this: detectors put learnt vectors in front of their prompts."""


def contrast(
    images: Tensor,  # (B, D)
    texts: Tensor,  # (P, D)
    target: Tensor,  # (B, P) bool: which caption is true of which picture
    scale: Tensor,
) -> Tensor:
    """Compute CLIP's symmetric loss; a caption that is true of several pictures is a positive for each of them.

    How often captions are true, and of how many, is added to the logits: that much needs no look at the pictures, and
    would draw all features into one point before they tell pictures apart.
    """
    logits = scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    losses = []
    for dim in (1, 0):
        positives = target.float() / target.sum(dim, keepdim=True).clamp(min=1)
        prior = positives.mean(1 - dim, keepdim=True).clamp(min=1e-4).log()
        losses.append(-(positives * (logits + prior).log_softmax(dim)).sum(dim).mean())
    return (losses[0] + losses[1]) / 2


def losses(model: TinyClip, batch: Batch, gelu: str, shift: int) -> tuple[Tensor, Tensor, float]:
    """Compare pictures with captions, and regions of them with captions of regions."""
    tokens = model.image_tokens(batch.images, batch.corner, gelu)
    texts = model.text_features(*batch.words, gelu, shift)
    scale = model.clip.logit_scale.exp()
    pooled = (batch.regions[:, None] @ tokens[batch.region_of, 1:])[:, 0]
    # Without what all have in common: towards a common point both towers slide otherwise, and stay there.
    whole, pooled, texts = (each - each.mean(0) for each in (tokens[:, 0], pooled, texts))
    of_pictures, of_regions = batch.targets
    state = batch.states
    return (
        contrast(whole, texts, of_pictures, scale) + contrast(whole, texts[state], of_pictures[:, state], scale),
        contrast(
            pooled, texts[state], of_regions[:, state], scale
        ),  # what a region is a part of, its surroundings tell
        _gain(whole, texts[: len(SEEN)], of_pictures[:, : len(SEEN)]),
    )


@torch.no_grad()
def _gain(images: Tensor, texts: Tensor, target: Tensor) -> float:
    """Say how much more often the nearest caption is true than the one that is true most often."""
    best = (F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T).argmax(1)
    return (target[torch.arange(len(best)), best].float().mean() - target.float().mean(0).max()).item()


def train(options: argparse.Namespace) -> None:
    """Draw, train and write the weights."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    folder = options.cache / f"pictures-{options.scenes}-{options.seed}"
    draw_pictures(folder, options.categories, options.scenes, options.seed)
    pictures = Pictures(folder, options.scenes)
    captions = Captions(options.categories)
    model = TinyClip(sorted(set(captions.vocabulary) - set(captions.tokens(UNKNOWN)[1:-1])))
    first = np.arange(min(100, options.scenes))
    captions.variety = 0.0
    sample = make_batch(pictures, captions, first, 84, np.random.default_rng(options.seed), is_shuffled=False)
    whiten(model.clip, F.unfold(sample.images, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1))
    centre(model, sample)
    captions.variety = 1.0
    varied = make_batch(pictures, captions, first, 84, np.random.default_rng(options.seed), is_shuffled=False)
    optimisers = _optimisers(model, options)
    start, spent = 0, 0.0
    if options.checkpoint.is_file():
        saved = torch.load(options.checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        start, spent = saved["step"], saved["spent"]
    began = time.monotonic() - spent
    means = np.zeros(3)
    numbers = order(options.scenes, options.batch, options.seed, start)
    parameters = list(model.parameters())

    def half(step: int, scenes: np.ndarray, part: int) -> tuple[list[Tensor], np.ndarray]:
        generator = np.random.default_rng([options.seed, step, part])
        batch = make_batch(pictures, captions, scenes, _size(step, options), generator, options.shuffle)
        whole, region, gain = losses(model, batch, ("gelu", "quick_gelu")[part], int(generator.integers(CONTEXT_SHIFT)))
        grads = torch.autograd.grad(whole + options.regions * region, parameters)
        return [grad / 2 for grad in grads], np.array([whole.item(), region.item(), gain])

    with ThreadPoolExecutor(2) as pool:  # one thread a half: fewer waits than two threads in every operation
        for step in range(start, options.steps):
            for optimiser in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = _rate(step, options) * group["share"]
            captions.variety = float(np.clip((step / options.steps - options.plain_share) / 0.2, 0, 1))
            scenes = next(numbers)
            (one, reports), (other, more) = pool.map(half, [step] * 2, np.array_split(scenes, 2), range(2))
            for parameter, *grads in zip(parameters, one, other, strict=True):
                parameter.grad = grads[0] + grads[1]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            for optimiser in optimisers:
                optimiser.step()
            model.clip.logit_scale.data.clamp_(max=math.log(50))
            means += (reports + more) / 2 / options.report
            if (step + 1) % options.report == 0 or step + 1 == options.steps:
                minutes = (time.monotonic() - began) / 60
                line = {
                    "step": step + 1,
                    "minutes": minutes,
                    "pictures": means[0],
                    "regions": means[1],
                    "gain": means[2],
                }
                print(json.dumps({key: round(value, 3) for key, value in line.items()}), flush=True)
                means[:] = 0
                states = [optimiser.state_dict() for optimiser in optimisers]
                saved = {"model": model.state_dict(), "optimisers": states, "step": step + 1}
                torch.save({**saved, "spent": time.monotonic() - began}, options.checkpoint)
                save_file(model.packed(varied), options.out)


def _optimisers(model: TinyClip, options: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Give Muon for the matrices of the blocks and AdamW for all else; the text tower learns more slowly."""
    matrices: list[dict[str, Any]] = [{"params": [], "share": 2.0}, {"params": [], "share": 2.0 * options.text_rate}]
    others: list[dict[str, Any]] = [{"params": [], "share": 1.0}, {"params": [], "share": options.text_rate}]
    for name, parameter in model.named_parameters():
        groups = matrices if "resblocks" in name and parameter.ndim == 2 else others
        groups["visual" not in name]["params"].append(parameter)
    return [
        torch.optim.Muon(matrices, options.lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, options.lr, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def _size(step: int, options: argparse.Namespace) -> int:
    return options.sizes[0] if step < options.steps * options.small_share else options.sizes[1]


def _rate(step: int, options: argparse.Namespace) -> float:
    warm = min((step + 1) / options.warmup, 1)
    return options.lr * warm * (0.5 * (1 + math.cos(math.pi * step / options.steps)) * 0.99 + 0.01)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the pictures and the checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="the file to write, *.safetensors")
    parser.add_argument("--categories", nargs="+", default=list(SEEN))
    parser.add_argument("--scenes", type=int, default=4200)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=24, help="scenes in a batch; three pictures each")
    parser.add_argument("--sizes", type=int, nargs=2, default=[84, 168], help="pixels, at first and at last")
    parser.add_argument("--small-share", type=float, default=0.9, help="share of the steps at the first size")
    parser.add_argument("--regions", type=float, default=1.0, help="weight of the regions' loss")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--text-rate", type=float, default=0.3, help="learning rate of the text tower, as a share")
    parser.add_argument(
        "--plain-share", type=float, default=0.5, help="share of the steps with one wording of each fact"
    )
    parser.add_argument("--warmup", type=int, default=150, help="steps")
    parser.add_argument("--report", type=int, default=50, help="steps between reports and checkpoints")
    parser.add_argument("--shuffle", action="store_true", help="give every picture the caption of another one")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.checkpoint = options.out.with_suffix(".ckpt")
    train(options)


if __name__ == "__main__":
    main()
