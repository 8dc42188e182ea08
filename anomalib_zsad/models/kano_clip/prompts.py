"""The text of KAnoCLIP: learnable prompts of both states (eq. 1), and encoded descriptions (eq. 3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.models.kano_clip.choices import KAnoChoices
from anomalib_zsad.models.parts.deep_prompts import DeepPrompts
from anomalib_zsad.models.parts.text_side import encode_sentences, prompt_tokens

_FIXED = ("a photo of a normal {}.", "a photo of an abnormal {}.")
_CHUNK = 64
"""The number of texts that are encoded at a time."""


class KnowledgePrompts(nn.Module):
    """Learnable normal and abnormal prompts: [N_1] ... [N_K] [normal] [class] and the same for the other state, eq. 1.

    The vectors of a state are shared by its adjectives and by all classes.

    Args:
        clip: The frozen CLIP.
        length: Number of learnable vectors before the words (K).
        normal: Adjectives of the normal state.
        abnormal: Adjectives of the abnormal state.
        choices: The mean over adjectives, and the learnable tokens in deeper blocks of the text tower.

    Raises:
        ValueError: If the vectors do not fit into the text tower's context, or it has fewer blocks than are to have
            learnable tokens.
    """

    def __init__(
        self,
        clip: FrozenClip,
        length: int = 12,
        normal: Sequence[str] = ("normal", "perfect"),
        abnormal: Sequence[str] = ("abnormal", "defective"),
        choices: KAnoChoices = KAnoChoices(),
    ) -> None:
        super().__init__()
        self.states = (tuple(normal), tuple(abnormal))
        self.ensemble = choices.text_ensemble
        deep = _deep_prompts(clip, choices, length) if choices.deep_prompt_depth else None
        longest = max(int(clip.tokenize([f"{word} object."]).argmax()) for state in self.states for word in state)
        if not 1 <= length < clip.context_length - longest:
            msg = (
                f"prompt_length must lie between 1 and {clip.context_length - longest - 1} for this backbone and these "
                f"states, got {length}"
            )
            raise ValueError(msg)
        self.vectors = nn.Parameter(torch.randn(2, length, clip.text_width) * 0.02)
        self.deep = deep

    def of(self, class_name: str) -> list[list[str]]:
        """Return the prompts of each state, with an X in place of each vector."""
        places = "X " * self.vectors.shape[1]
        return [[f"{places}{word} {class_name}." for word in state] for state in self.states]

    def forward(
        self,
        clip: FrozenClip,
        names: Sequence[str],
    ) -> dict[str, Tensor]:  # each (S, D), not normalised
        """Encode the prompts of classes."""
        prompts = [self.of(name) for name in names]
        tokens, end = prompt_tokens(clip, [text for states in prompts for state in states for text in state])
        words = clip.embed_tokens(tokens)
        counts = [len(state) for state in self.states]
        vectors = torch.cat([self.vectors[i].expand(count, -1, -1) for i, count in enumerate(counts)])
        vectors = vectors.repeat(len(names), 1, 1)
        words = torch.cat([words[:, :1], vectors, words[:, 1 + vectors.shape[1] :]], dim=1)
        edit = None if self.deep is None else self.deep.edit
        features = clip.encode_text(words, end, edit).split(counts * len(names))
        joined = [self._join(each) for each in features]
        return {name: torch.stack(joined[2 * i : 2 * i + 2]) for i, name in enumerate(names)}

    def _join(
        self,
        features: Tensor,  # (E, D)
    ) -> Tensor:  # (D,)
        if self.ensemble == "mean_raw":
            return features.mean(0)
        return F.normalize(F.normalize(features, dim=-1).mean(0), dim=-1)


class FixedPrompts(nn.Module):
    """Fixed prompts, for the ablation without knowledge-driven prompts."""

    def forward(
        self,
        clip: FrozenClip,
        names: Sequence[str],
    ) -> dict[str, Tensor]:  # each (S, D)
        """Encode the prompts of classes."""
        return {name: encode_sentences(clip, [text.format(name) for text in _FIXED]) for name in names}


class KnowledgeTargets(nn.Module):
    """The target of abnormal prompts: the mean of the encoded descriptions of a class or an image, eq. 3.

    It has no gradient. Each text is encoded once.

    Args:
        width: D, width of the encoded texts.
    """

    features: Tensor  # (n, D) of all texts so far, as the encoder gives them

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.empty(0, width), persistent=False)
        self._rows: dict[str, int] = {}

    @torch.no_grad()
    def forward(
        self,
        clip: FrozenClip,
        texts: Sequence[Sequence[str]],  # n sets
    ) -> Tensor:  # (n, D)
        """Compute the mean of each set of encoded texts."""
        new = [text for text in dict.fromkeys(text for each in texts for text in each) if text not in self._rows]
        if new:
            found = [encode_sentences(clip, new[start : start + _CHUNK]) for start in range(0, len(new), _CHUNK)]
            self.features = torch.cat([self.features, *found])
            self._rows.update({text: len(self._rows) + i for i, text in enumerate(new)})
        rows = torch.tensor([self._rows[text] for each in texts for text in each])
        chosen = self.features.index_select(0, rows.to(self.features.device, non_blocking=True))
        return torch.stack([each.mean(0) for each in chosen.split([len(each) for each in texts])])


def _deep_prompts(clip: FrozenClip, choices: KAnoChoices, prompt_length: int) -> DeepPrompts:
    depth, most = choices.deep_prompt_depth, clip.n_text_blocks - 1
    if depth > most:
        msg = (
            f"choices.deep_prompt_depth must lie between 0 and {most}, the text blocks after the first one, got {depth}"
        )
        raise ValueError(msg)
    return DeepPrompts(clip, depth, choices.deep_prompt_length, prompt_length)
