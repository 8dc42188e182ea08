"""KAnoCLIP written out slowly: one image, one head, one patch at a time, as the equations stand."""

import math

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from anomalib_zsad.clip.blocks import run_block


def layer_norm(x, norm):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def linear(x, layer):  # of any linear layer or 1 x 1 convolution, x: (n, in)
    weight = layer.weight.flatten(1)
    return x @ weight.T + (0 if layer.bias is None else layer.bias)


def multi_head(query, key, value, heads):  # (q, w), (k, w), (k, w)
    parts, width = [], query.shape[1] // heads
    for head in range(heads):
        q, k, v = (each[:, head * width : (head + 1) * width] for each in (query, key, value))
        rows = []
        for row in q:
            weights = torch.exp(k @ row / math.sqrt(width))
            rows.append((weights / weights.sum()) @ v)
        parts.append(torch.stack(rows))
    return torch.cat(parts, dim=1)


def attention(x, y, part):  # queries x, keys and values y
    joined = multi_head(linear(x, part.to_q), linear(y, part.to_k), linear(y, part.to_v), part.heads)
    return linear(joined, part.to_out)


def bilinear_at(plane, x, y):  # plane: (channels, gh, gw); x, y in [-1, 1] across the whole map, edges repeated
    height, width = plane.shape[1:]
    column = min(max((x + 1) / 2 * width - 0.5, 0), width - 1)
    row = min(max((y + 1) / 2 * height - 0.5, 0), height - 1)
    left, top = min(int(column), width - 1), min(int(row), height - 1)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    a, b = column - left, row - top
    upper = (1 - a) * plane[:, top, left] + a * plane[:, top, right]
    lower = (1 - a) * plane[:, bottom, left] + a * plane[:, bottom, right]
    return (1 - b) * upper + b * lower


def deformable(tokens, part, grid, kernel, stride, reach):  # (N, D)
    down = linear(tokens, part.down)
    q = linear(down, part.to_q)
    plane, asking = (each.T.reshape(-1, *grid) for each in (down, q))
    rows, columns = ((n + 2 * (kernel // 2) - kernel) // stride + 1 for n in grid)
    each = len(plane) // part.groups
    sampled = torch.zeros(len(plane), rows, columns)
    for group in range(part.groups):
        channels = slice(group * each, (group + 1) * each)
        padded = F.pad(asking[channels], (kernel // 2,) * 4)
        for row in range(rows):
            for column in range(columns):
                window = padded[:, row * stride : row * stride + kernel, column * stride : column * stride + kernel]
                found = (window * part.offset_conv.weight[:, 0]).sum((1, 2)) + part.offset_conv.bias
                found = F.gelu(layer_norm(found, part.offset_norm))
                move = torch.tanh(part.offset_out.weight[:, :, 0, 0] @ found)
                x = (column + 0.5) / columns * 2 - 1 + float(move[0]) * reach / columns
                y = (row + 0.5) / rows * 2 - 1 + float(move[1]) * reach / rows
                sampled[channels, row, column] = bilinear_at(plane[channels], x, y)
    points = sampled.flatten(1).T
    attended = multi_head(q, linear(points, part.to_k), linear(points, part.to_v), part.heads)
    return linear(attended, part.up)


def bica(patches, text, part, grid, kernel, stride, reach):  # (N, D), (S, D) -> cosines (N, S)
    for step in ("self", "cross") if part.choices.bica_order == "self_first" else ("cross", "self"):
        if step == "self":
            normed = layer_norm(text, part.text_norm)
            text = text + part.text_scale * attention(normed, normed, part.text_self)
            moved = deformable(layer_norm(patches, part.patch_norm), part.deformable, grid, kernel, stride, reach)
            patches = patches + part.patch_scale * moved
        else:
            t, v = layer_norm(text, part.cross_text_norm), layer_norm(patches, part.cross_patch_norm)
            text = text + part.patch_to_text_scale * attention(t, v, part.patch_to_text)
            patches = patches + part.text_to_patch_scale * attention(v, t, part.text_to_patch)
    if part.choices.bica_ffn:
        text = text + part.text_ffn_scale * feed_forward(text, part.text_ffn)
        patches = patches + part.patch_ffn_scale * feed_forward(patches, part.patch_ffn)
    return torch.stack([torch.stack([cosine(p, s) for s in text]) for p in patches])


def feed_forward(x, part):
    norm, wide, _, narrow = part
    return linear(torch.relu(linear(layer_norm(x, norm), wide)), narrow)


def cosine(a, b):
    return a @ b / (a.norm() * b.norm())


def conv_adapter(feature, patches, part, grid):  # (D,), (N, D)
    def operator(plane):  # (D, h, w) -> (h w, D)
        padded = F.pad(plane, (1, 1, 1, 1))
        out = []
        for row in range(plane.shape[1]):
            for column in range(plane.shape[2]):
                deep = plane[:, row, column]
                if part.depthwise is not None:
                    window = padded[:, row : row + 3, column : column + 3]
                    weight = part.depthwise.weight  # (channels, channels of a group, 3, 3)
                    deep = (window.reshape(weight.shape) * weight).sum((1, 2, 3))
                narrow = deep if isinstance(part.down, torch.nn.Identity) else part.down.weight @ deep
                out.append(part.up.weight @ torch.relu(narrow) * (1 if part.scale is None else part.scale))
        return torch.stack(out)

    alone = operator(layer_norm(feature, part.norm)[:, None, None])[0]
    around = operator(layer_norm(patches, part.norm).T.reshape(-1, *grid)).mean(0)
    return alone + around + part.residual * feature


def text_of(model, name):  # (S, D), prompt by prompt at full length
    states = []
    for state, words in enumerate((("normal", "perfect"), ("abnormal", "defective"))):
        features = []
        for word in words:
            tokens = model.encoder.clip.tokenize([" ".join(["X"] * 12) + f" {word} {name}."])
            embedded = model.encoder.clip.embed_tokens(tokens).clone()
            embedded[0, 1:13] = model.prompts.vectors[state]
            features.append(encode(model, embedded[0], int(tokens.argmax())))
        states.append(sum(features) / len(features))
    return torch.stack(states)


def encode(model, words, end):  # (T, Ct), block by block
    clip, deep = model.encoder.clip, model.prompts.deep
    stream = words + clip.clip.positional_embedding
    for i in range(clip.n_text_blocks):
        if deep is not None and 1 <= i <= len(deep.tokens):
            stream = stream.clone()
            stream[1 : 1 + deep.tokens.shape[1]] = deep.tokens[i - 1]
        stream = run_block(clip.clip.transformer.resblocks[i], stream[None], clip.activation, causal=True)[0]
    return clip.clip.ln_final(stream[end]) @ clip.clip.text_projection


def min_max(plane):
    return (plane - plane.min()) / (plane.max() - plane.min())


def scores_of(model, image, name, kernel=3, stride=2, reach=2.0):
    """Of one image: its score, M^a and M."""
    size = tuple(image.shape[1:])
    grid = model.encoder.clip.grid_of(*size)
    stages, last = model.encoder.clip.encode_patches_vv(image[None], [1, 2, 3, 4], 1)
    project = lambda tokens: layer_norm(tokens[0], model.encoder.clip.ln_post) @ model.encoder.clip.projection  # noqa: E731
    text = text_of(model, name)
    logits = sum(
        bica(project(stage)[1:], text, part, grid, kernel, stride, reach) / 0.07
        for stage, part in zip(stages, model.bicmci.stages, strict=True)
    )
    planes = F.interpolate(logits.T.reshape(1, 2, *grid), size=size, mode="bilinear", align_corners=False)[0]
    normal, abnormal = planes.softmax(0) if model.choices.map_norm == "softmax" else map(min_max, planes)
    smooth = gaussian_filter((abnormal + 1 - normal).detach().double().numpy(), 4.0) / 2  # eq. 10
    last = project(last)
    feature = conv_adapter(last[0], last[1:], model.conv_adapter, grid)
    similar = torch.stack([cosine(feature, state) for state in text]) / 0.07
    return (float(similar.softmax(0)[1]) + smooth.max()) / 2, abnormal, torch.from_numpy(smooth).float()


def losses_of(scores, maps, labels, masks, distances, normal=None):
    """Eq. 2 and 14-15 pixel by pixel, with numpy."""
    s, y, m, g = (np.asarray(each, dtype=np.float64) for each in (scores, labels, maps, masks > 0))
    likelihood = np.clip(np.where(g == 1, m, 1 - m), 1e-5, 1 - 1e-5)

    def dice(p, q):
        ratios = [(2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in zip(p, q, strict=True)]
        return 1 - sum(ratios) / len(ratios)

    terms = {
        "loss_global": -(y * np.log(s) + (1 - y) * np.log(1 - s)).mean(),
        "loss_focal": -((1 - likelihood) ** 2 * np.log(likelihood)).mean(),
        "loss_dice_normal": dice(1 - m if normal is None else np.asarray(normal, dtype=np.float64), 1 - g),
        "loss_dice_abnormal": dice(m, g),
        "loss_kd": np.mean([max(0.0, abnormal - normal) for normal, abnormal in np.asarray(distances)]),
    }
    return {"loss": sum(terms.values()), **terms}
