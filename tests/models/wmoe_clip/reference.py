"""WMoE-CLIP written out slowly from its equations: numpy in float64, PyWavelets, an image and a patch at a time."""

import numpy as np
import open_clip
import pywt
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import erf, expit
from torch.nn import functional as F

TAU = 0.07


class Reference:
    """The forward pass and the losses with the weights of a model, its frozen taps given.

    Args:
        model: A `WMoEClipModel` with default options but for those below.
        residual: As `wcma_residual`.
    """

    def __init__(self, model, residual=False):
        arrays = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}
        self.w = arrays
        self.clip = {name: value.double().numpy() for name, value in model.encoder.clip.clip.state_dict().items()}
        self.residual = residual
        self.heads = model.encoder.clip.clip.transformer.resblocks[0].attn.num_heads

    def linear(self, name, x):
        return x @ self.w[f"{name}.weight"].T + self.w.get(f"{name}.bias", 0)

    def norm(self, name, x):
        centred = x - x.mean(-1, keepdims=True)
        unit = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return unit * self.clip[f"{name}.weight"] + self.clip[f"{name}.bias"]

    def image(self, taps, grid, size, noise=None):
        """One image: taps L x (1 + N, C), noise (m, D) or None for the mean."""
        token = self.norm("visual.ln_post", taps[-1][0]) @ self.clip["visual.proj"]
        out = {"token": token}
        text = np.stack(list(self.texts(self.sample(token, noise, out))))
        maps, pooled = [], []
        for layer, tap in enumerate(taps):
            patches = self.linear(f"projections.linears.{layer}", self.norm("visual.ln_post", tap[1:]))
            if "experts.router.weight" in self.w:
                pooled.append(self.linear(f"experts.context.linears.{layer}", patches).mean(0))
            refined = self.refine(patches, grid, text) if "attention.0.to_q.weight" in self.w else text
            logits = unit(patches) @ unit(refined).T / TAU
            maps.append(self.layer_map(logits.reshape(*grid, 2), size))
        token = token + self.experts(np.concatenate(pooled), out) if pooled else token
        text_score = softmax(unit(text) @ unit(token) / TAU)[1]
        anomaly_map = np.mean([each[1] for each in maps], axis=0)
        return {
            **out,
            "maps": np.stack(maps),
            "anomaly_map": gaussian_filter(anomaly_map, 8.0),
            "score": (text_score + anomaly_map.max()) / 2,
        }

    def sample(self, token, noise, out):  # eq. 1-3
        inner = relu(self.linear("sampler.trunk.0", token))
        mean, log_variance = self.linear("sampler.mean", inner), self.linear("sampler.log_variance", inner)
        draws = np.zeros((2, len(mean))) if noise is None else noise
        latent = [mean + each * np.sqrt(np.exp(log_variance)) for each in draws]
        decoded = [self.linear("sampler.decoder.2", relu(self.linear("sampler.decoder.0", each))) for each in latent]
        out["kl"] = -0.5 * sum(1 + v - m**2 - np.exp(v) for m, v in zip(mean, log_variance, strict=True))
        out["rec"] = np.mean([((each - token) ** 2).sum() for each in decoded])
        return decoded

    def texts(self, decoded):  # eq. 4, all 77 positions
        for state, words in enumerate(("a photo of a good", "a photo of a damaged")):
            numbers = open_clip.tokenize([words])[0].numpy()
            end = int(numbers.argmax())
            table = self.clip["token_embedding.weight"]
            vectors = [r + v for r, v in zip(decoded, self.w["prompts.vectors"][state], strict=True)]
            prompt = [*table[numbers[:end]], *vectors, table[numbers[end]]]
            prompt += [table[0]] * (77 - len(prompt))
            yield self.encode(np.stack(prompt))[end + len(vectors)]

    def encode(self, x):
        x = x + self.clip["positional_embedding"]
        block = 0
        while f"transformer.resblocks.{block}.ln_1.weight" in self.clip:
            x = self.block(f"transformer.resblocks.{block}", x)
            block += 1
        return self.norm("ln_final", x) @ self.clip["text_projection"]

    def block(self, name, x):
        def linear(part, y):
            return y @ self.clip[f"{name}.{part}weight"].T + self.clip[f"{name}.{part}bias"]

        q, k, v = np.split(linear("attn.in_proj_", self.norm(f"{name}.ln_1", x)), 3, axis=-1)
        outs = []
        for q_h, k_h, v_h in zip(*(np.split(each, self.heads, axis=-1) for each in (q, k, v)), strict=True):
            scores = q_h @ k_h.T / np.sqrt(q_h.shape[-1])
            scores[np.triu_indices(len(scores), 1)] = -np.inf
            outs.append(softmax(scores) @ v_h)
        x = x + linear("attn.out_proj.", np.concatenate(outs, axis=-1))
        wide = linear("mlp.c_fc.", self.norm(f"{name}.ln_2", x))
        return x + linear("mlp.c_proj.", wide * expit(1.702 * wide))

    def refine(self, patches, grid, text):  # eq. 5-7
        low, high = haar(patches.reshape(*grid, -1))
        whole = self.gate("whole", relu((low + high).mean((0, 1))))
        gate = np.zeros_like(low)
        for y, x in np.ndindex(*grid):
            gate[y, x] = expit(whole + self.gate("outer", relu(self.gate("inner", (low + high)[y, x]))))
        enhanced = (high * gate + low).reshape(patches.shape)
        query, key, value = (
            self.linear(f"attention.0.to_{n}", x) for n, x in (("q", text), ("k", enhanced), ("v", enhanced))
        )
        refined = softmax(query @ key.T / np.sqrt(key.shape[-1])) @ value
        return text + refined if self.residual else refined

    def gate(self, name, x):
        x, norm = self.linear(f"attention.0.gate.{name}", x), f"attention.0.gate.{name}_norm.norm"
        if f"{norm}.running_mean" in self.w:
            x = (x - self.w[f"{norm}.running_mean"]) / np.sqrt(self.w[f"{norm}.running_var"] + 1e-5)
            x = x * self.w[f"{norm}.weight"] + self.w[f"{norm}.bias"]
        return x

    def experts(self, context, out):  # eq. 8
        logits = self.linear("experts.router", context)
        chosen = np.argsort(logits)[::-1][:2]
        mix = 0
        for expert, weight in zip(chosen, softmax(logits[chosen]), strict=True):
            hidden = context @ self.w["experts.inner"][expert] + self.w["experts.inner_bias"][expert]
            hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
            mix = mix + weight * (hidden @ self.w["experts.outer"][expert] + self.w["experts.outer_bias"][expert])
        out["chosen"] = set(chosen.tolist())
        return mix

    @staticmethod
    def layer_map(logits, size):
        planes = torch.from_numpy(logits).permute(2, 0, 1)[None]
        return softmax(F.interpolate(planes, size=size, mode="bilinear")[0].numpy(), axis=0)


def losses(results, label, mask):
    """Eq. 2-3 and 9-11, pixel by pixel where it matters."""
    n_layers = len(results[0]["maps"])
    focal, dice = 0.0, 0.0
    for layer in range(n_layers):
        for each, truth in zip(results, mask, strict=True):
            normal, abnormal = each["maps"][layer]
            p = np.clip(np.where(truth > 0, abnormal, normal), 1e-5, 1 - 1e-5)
            focal += np.mean(-((1 - p) ** 2) * np.log(p)) / len(results)
            overlap = 2 * abnormal[truth > 0].sum() + 1
            dice += (1 - overlap / (abnormal.sum() + (truth > 0).sum() + 1)) / len(results)
    scores = np.array([each["score"] for each in results])
    terms = {
        "loss_global": -np.mean(np.where(label > 0, np.log(scores), np.log(1 - scores))),
        "loss_focal": focal,
        "loss_dice": dice,
        "loss_kl": np.mean([each["kl"] for each in results]),
        "loss_rec": np.mean([each["rec"] for each in results]),
    }
    return {"loss": sum(terms.values()), **terms}


def haar(patches):  # (gh, gw, D)
    """The low and the high frequency part, each band returned by its own inverse transform."""
    low, high = np.zeros_like(patches), np.zeros_like(patches)
    height, width, channels = patches.shape
    for channel in range(channels):
        ll, (lh, hl, hh) = pywt.dwt2(patches[..., channel], "haar", mode="symmetric")
        low[..., channel] = pywt.idwt2((ll, (None, None, None)), "haar")[:height, :width]
        for details in ((lh, None, None), (None, hl, None), (None, None, hh)):
            high[..., channel] += pywt.idwt2((None, details), "haar")[:height, :width]
    return low, high


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def relu(x):
    return np.maximum(x, 0)
