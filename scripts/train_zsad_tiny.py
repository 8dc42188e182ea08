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
from typing import Any, NamedTuple

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from tiny_captions import UNKNOWN, Captions, truth
from tiny_pictures import VARIANTS, Pictures, batches, draw_pictures
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.clip.layout import config_of
from anomalib_zsad.clip.packing import VOCABULARY, pack
from anomalib_zsad.drawing import SEEN
from anomalib_zsad.models.pre_processor import CLIP_MEAN, CLIP_STD

IMAGE_SIZE, PATCH = 168, 14
"""Pixels."""

CONTEXT_SHIFT = 16
"""Captions start at a random position below this: detectors put learnt vectors in front of their prompts."""


class Batch(NamedTuple):
    """Pictures, regions on them, and what is said of both."""

    images: Tensor  # (B, 3, H, W), normalised
    corner: tuple[int, int]  # their place on the grid of a whole picture, in patches
    regions: Tensor  # (R, N) weights of the patches, sum 1
    region_of: Tensor  # (R,) the picture of each region
    words: tuple[Tensor, Tensor]  # texts (P, T), ends (P,)
    states: slice  # those of them that tell the state of anything
    targets: list[Tensor]  # which are true of pictures (B, P) and of regions (R, P), bool


class TinyClip(nn.Module):
    """open_clip's CLIP with the word embeddings of a small vocabulary; the forward pass is written out for speed.

    Args:
        vocabulary: Token numbers; all others share one embedding.
    """

    def __init__(self, vocabulary: list[int]) -> None:
        super().__init__()
        config = config_of("zsad-tiny")
        config["text_cfg"] = {**config["text_cfg"], "vocab_size": len(vocabulary) + 1}
        self.clip = open_clip.CLIP(**config)
        _start(self.clip)
        self.register_buffer("numbers", torch.tensor(vocabulary))
        index = torch.full((VOCABULARY,), len(vocabulary))
        index[self.numbers] = torch.arange(len(vocabulary))
        self.register_buffer("index", index)

    def image_tokens(
        self,
        images: Tensor,  # (B, 3, H, W)
        corner: tuple[int, int],
        gelu: str,
    ) -> Tensor:  # (B, 1 + N, D)
        """Encode pictures; the class token and the patches all come to the joint space.

        Pictures smaller than the model's have the positions of the part of the grid that begins at `corner`.
        """
        vision = self.clip.visual
        x = vision.conv1(images).flatten(2).transpose(1, 2)
        side = math.isqrt(x.shape[1])
        positions, (top, left) = vision.positional_embedding, corner
        patches = positions[1:].unflatten(0, vision.grid_size)[top : top + side, left : left + side]
        first = (vision.class_embedding + positions[0]).expand(len(x), 1, -1)
        x = vision.ln_pre(torch.cat([first, x + patches.flatten(0, 1)], dim=1))
        with torch.autocast("cpu", torch.bfloat16):
            for block in vision.transformer.resblocks:
                x = _block(block, x, gelu, causal=False)
        return vision.ln_post(x) @ vision.proj  # in float32: at first all features are close to one another

    def text_features(
        self,
        texts: Tensor,  # (P, T)
        ends: Tensor,  # (P,)
        gelu: str,
        shift: int,
    ) -> Tensor:  # (P, D)
        """Encode captions that start at position `shift`."""
        clip = self.clip
        x = clip.token_embedding(self.index[texts]) + clip.positional_embedding[shift : shift + texts.shape[1]]
        for block in clip.transformer.resblocks:
            x = _block(block, x, gelu, causal=True)
        return clip.ln_final(x[torch.arange(len(x)), ends]) @ clip.text_projection

    def packed(self, batch: Batch) -> dict[str, Tensor]:
        """Give the weights as the package keeps them, the means of a batch's features folded into them."""
        visual, text = _means(self, batch, tokens=slice(0, 1))
        state = {name: tensor.detach().clone() for name, tensor in self.clip.state_dict().items()}
        state.pop("attn_mask", None)
        state["visual.ln_post.bias"] -= visual
        state["ln_final.bias"] -= text
        rows = state["token_embedding.weight"]
        table = torch.zeros(VOCABULARY, rows.shape[1])
        table[self.numbers] = rows[:-1]
        return pack({**state, "token_embedding.weight": table}, self.numbers, rows[-1])


def _start(clip: nn.Module) -> None:
    """Begin where contrast learns fast: features that differ from the first step, positions that are waves."""
    vision = clip.visual
    grid, width = vision.grid_size[0], vision.conv1.out_channels
    waves = torch.arange(grid)[:, None] / 10000 ** (torch.arange(width // 4) / (width / 4))
    one = torch.cat([waves.sin(), waves.cos()], dim=1)
    both = torch.cat([one[:, None].expand(-1, grid, -1), one[None].expand(grid, -1, -1)], dim=2)
    with torch.no_grad():
        vision.positional_embedding[1:] = 0.2 * both.flatten(0, 1)
        vision.class_embedding *= 0.1
        clip.token_embedding.weight *= 20
        clip.positional_embedding *= 5
        for block in (*vision.transformer.resblocks, *clip.transformer.resblocks):
            for part in block.attn.in_proj_weight.chunk(3)[2], block.attn.out_proj.weight:
                nn.init.orthogonal_(part)  # what is attended to passes on as a whole


@torch.no_grad()
def _means(model: TinyClip, batch: Batch, tokens: slice) -> tuple[Tensor, Tensor]:
    """Say what to take from the biases of the last layer norms for features whose mean is zero."""
    images = model.image_tokens(batch.images, batch.corner, "gelu")[:, tokens].flatten(0, 1)
    texts = model.text_features(*batch.words, "gelu", 0)
    ends = ((images, model.clip.visual.proj), (texts, model.clip.text_projection))
    visual, text = (features.mean(0) @ projection.pinverse() for features, projection in ends)
    return visual, text


@torch.no_grad()
def centre(model: TinyClip, batch: Batch) -> None:
    """Begin with features that point everywhere: from a common direction both towers slide into one point."""
    visual, text = _means(model, batch, tokens=slice(None))
    model.clip.visual.ln_post.bias -= visual
    model.clip.ln_final.bias -= text
    model.clip.logit_scale.fill_(math.log(8))


def whiten(clip: nn.Module, patches: Tensor) -> None:
    """Begin the patch embedding with the main components of patches, each of nearly the same variance.

    Args:
        clip: An open_clip.CLIP.
        patches: (K, 3 * PATCH * PATCH), normalised.
    """
    weight = clip.visual.conv1.weight
    values, vectors = torch.linalg.eigh(patches.T.cov())
    values, vectors = values.flip(0)[: len(weight)], vectors.flip(1)[:, : len(weight)]
    rows = (vectors / (values + 0.02 * values[0]).sqrt()).T
    with torch.no_grad():
        weight.copy_(0.5 * rows.view_as(weight))


def _block(block: nn.Module, x: Tensor, gelu: str, causal: bool) -> Tensor:
    attention, mlp = block.attn, block.mlp
    qkv = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = qkv.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)
    x = x + attention.out_proj(out)
    wide = mlp.c_fc(block.ln_2(x))
    wide = wide * torch.sigmoid(1.702 * wide) if gelu == "quick_gelu" else F.gelu(wide)
    return x + mlp.c_proj(wide)


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
    return sum(losses) / 2


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
            if weight.sum() > 0:
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
    mean, std = (torch.tensor(each)[:, None, None] for each in (CLIP_MEAN, CLIP_STD))
    return (images - mean) / std


def _padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    texts = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for number, row in enumerate(rows):
        texts[number, : len(row)] = torch.tensor(row)
    return texts, torch.tensor([len(row) - 1 for row in rows])


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
    captions.variety = 0.0
    sample = make_batch(pictures, captions, np.arange(100), 84, np.random.default_rng(options.seed), is_shuffled=False)
    whiten(model.clip, F.unfold(sample.images, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1))
    centre(model, sample)
    captions.variety = 1.0
    varied = make_batch(pictures, captions, np.arange(100), 84, np.random.default_rng(options.seed), is_shuffled=False)
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
    numbers = batches(options.scenes, options.batch, options.seed, start)
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
            (one, first), (other, second) = pool.map(half, [step] * 2, np.array_split(scenes, 2), range(2))
            for parameter, *grads in zip(parameters, one, other, strict=True):
                parameter.grad = grads[0] + grads[1]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            for optimiser in optimisers:
                optimiser.step()
            model.clip.logit_scale.data.clamp_(max=math.log(50))
            means += (first + second) / 2 / options.report
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
