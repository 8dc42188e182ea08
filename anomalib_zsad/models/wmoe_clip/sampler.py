"""Class Token Distribution Sampling: prompts with vectors sampled from a distribution of the class token (eq. 1-4)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models.wmoe_clip.choices import WMoEChoices


class Sample(NamedTuple):
    """Samples of the images and their distribution; m is 1 where all samples of an image are the same."""

    token: Tensor  # (B, D) x_c
    mean: Tensor  # (B, D)
    log_variance: Tensor  # (B, D)
    latent: Tensor  # (B, m, D) s_c
    decoded: Tensor  # (B, m, D) r


class ClassTokenSampler(nn.Module):
    """A variational autoencoder of the class token, eq. 1.

    Args:
        width: D, width of the class token and of the latent.
        choices: Width of the hidden layers.
    """

    def __init__(self, width: int, choices: WMoEChoices = WMoEChoices()) -> None:
        super().__init__()
        hidden = choices.vae_hidden
        self.trunk = nn.Sequential(nn.Linear(width, hidden), nn.ReLU())
        self.mean = nn.Linear(hidden, width)
        self.log_variance = nn.Linear(hidden, width)
        self.decoder = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(
        self,
        token: Tensor,  # (B, D)
        noise: Tensor | None = None,  # (B or 1, m, D), standard normal
    ) -> Sample:
        """Sample with the given noise; without it, return the mean once."""
        inner = self.trunk(token)
        mean, log_variance = self.mean(inner), self.log_variance(inner)
        latent = mean[:, None]
        if noise is not None:
            latent = latent + noise * torch.exp(log_variance / 2)[:, None]
        return Sample(token, mean, log_variance, latent, self.decoder(latent))


class SampledPrompts(nn.Module):
    """Two prompts, of a normal and of an anomalous state, that end in learnable vectors, eq. 4.

    Every vector of an image is the sum of one sampled for the image and one of the state. Word embeddings are looked up
    once, so no vocabulary is needed later; tokens after the end of text cannot change its feature (the text tower is
    causal) and are not encoded.

    Args:
        clip: The frozen CLIP.
        texts: The words of each state, the normal one first.
        length: m, vectors of each state.
        choices: Scale of the vectors relative to word embeddings.

    Raises:
        ValueError: If the prompts do not fit into the text tower.
    """

    end: Tensor
    words: Tensor
    slots: Tensor

    def __init__(
        self, clip: FrozenClip, texts: Sequence[str], length: int = 2, choices: WMoEChoices = WMoEChoices()
    ) -> None:
        super().__init__()
        tokens = clip.tokenize(texts)
        first = tokens.argmax(dim=-1)  # the end-of-text token has the highest number; the vectors take its place
        end = first + length
        if length < 1 or int(end.max()) >= clip.context_length:
            most = clip.context_length - 1 - int(first.max())
            msg = f"prompt_length must lie between 1 and {most} for this backbone and these prompts, got {length}"
            raise ValueError(msg)
        self.scale = choices.prompt_scale
        self.vectors = nn.Parameter(torch.randn(len(tokens), length, clip.text_width) * 0.02)
        embedded = clip.embed_tokens(tokens).detach()
        words = torch.zeros(len(tokens), int(end.max()) + 1, clip.text_width)
        slots = torch.zeros(*words.shape[:2], length)
        for state, (start, stop) in enumerate(zip(first.tolist(), end.tolist(), strict=True)):
            words[state, :start] = embedded[state, :start]
            words[state, stop] = embedded[state, start]
            slots[state, start:stop] = torch.eye(length)
        self.register_buffer("end", end, persistent=False)
        self.register_buffer("words", words, persistent=False)  # (S, T, Ct), zeros where vectors go
        self.register_buffer("slots", slots, persistent=False)  # (S, T, m), one where a vector goes

    def embed(
        self,
        drawn: Tensor | None,  # (B, m or 1, Ct)
    ) -> Tensor:  # (B, S, T, Ct); (1, S, T, Ct) without drawn vectors
        """Append the vectors to the words."""
        vectors = self.vectors[None] if drawn is None else self.vectors + drawn[:, None]
        return self.words + torch.einsum("stm,bsmc->bstc", self.slots, self.scale * vectors)

    def forward(
        self,
        clip: FrozenClip,
        drawn: Tensor | None = None,  # (B, m or 1, Ct)
    ) -> Tensor:  # (B, S, D); (1, S, D) without drawn vectors
        """Encode the prompts of all images in one call."""
        words = self.embed(drawn)
        text = clip.encode_text(words.flatten(0, 1), self.end.repeat(words.shape[0]))
        return text.unflatten(0, (-1, len(self.end)))
