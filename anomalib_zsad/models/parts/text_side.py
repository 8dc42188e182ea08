"""Text features of prompts: cached while their parameters stay the same, constants in exported graphs."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anomalib_zsad.clip.backbone import FrozenClip
from anomalib_zsad.seam.tensors import version_of


class TextSide(nn.Module):
    """Encodes prompts and caches the features until a tensor that they depend on changes.

    The prompts are a module of the method, under its name in checkpoints. Without class names it is called
    `prompts(clip)` and returns the features for all images; with class names it is called `prompts(clip, names)` with
    distinct names and returns a mapping from name to features.

    Args:
        class_name: The class of images that come without one. None: no prompt names a class.
    """

    folded: Tensor | None

    def __init__(self, class_name: str | None = None) -> None:
        super().__init__()
        self.class_name = class_name
        self.register_buffer("folded", None, persistent=False)
        self._known: tuple[object, dict[str, Tensor]] = (None, {})

    def forward(
        self,
        prompts: nn.Module,
        clip: FrozenClip,
        class_names: Sequence[str] | None = None,  # B
    ) -> Tensor:  # (B, ...), (1, ...) where all images have the default class; (...) where no prompt names a class
        """Return the text features for the classes of images.

        With learnable prompts and gradients enabled nothing is cached; otherwise each class is encoded once for every
        state of the prompts. A graph that is traced through here encodes them each time: it cannot see that state.
        """
        if self.folded is not None:
            return self.folded
        names = list(class_names) if class_names else [self.class_name or ""]
        sources = [clip.marker, *prompts.parameters()]
        with torch.autocast(clip.marker.device.type, enabled=False):
            if _learns(sources) or torch.compiler.is_compiling():
                features = self._encode(prompts, clip, names)
            else:
                features = self._remember(prompts, clip, names, sources)
        return features[""] if self.class_name is None else torch.stack([features[name] for name in names])

    def fold(self, prompts: nn.Module, clip: FrozenClip) -> None:
        """Keep the features of the default class as a constant: no image changes them."""
        self.folded = self(prompts, clip)

    def _encode(self, prompts: nn.Module, clip: FrozenClip, names: Sequence[str]) -> dict[str, Tensor]:
        if self.class_name is None:
            return {"": prompts(clip)}
        return prompts(clip, list(dict.fromkeys(names)))

    def _remember(
        self,
        prompts: nn.Module,
        clip: FrozenClip,
        names: Sequence[str],
        sources: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        state = (sources[0].device, tuple((id(source), version_of(source)) for source in sources))
        known = self._known[1] if self._known[0] == state else {}
        missing = [name for name in names if name not in known]
        if missing:
            with torch.inference_mode(False), torch.no_grad():
                known = {**known, **self._encode(prompts, clip, missing)}
        self._known = (state, known)
        return known


def prompt_tokens(
    clip: FrozenClip,
    texts: Sequence[str],
) -> tuple[Tensor, Tensor]:  # (P, T) and (P,)
    """Tokenize texts, up to the last position that is read, and return the positions of each that is.

    Those are the end-of-text tokens where the text tower is causal: later ones cannot change a feature.
    """
    tokens = clip.tokenize(texts, trim=True).to(clip.marker.device, non_blocking=True)  # a GPU is not waited for
    return tokens, clip.ends_of(tokens)


def words_beside(
    clip: FrozenClip,
    texts: Sequence[str],
    length: int,
) -> tuple[Tensor, Tensor]:  # (P, T, Ct) and (P,)
    """Embed texts that learnable vectors stand beside, up to the last end of one.

    Args:
        clip: The frozen CLIP.
        texts: The words of each prompt.
        length: Vectors in front of the words.

    Returns:
        The embeddings, without the vectors, and the positions of their ends, with the vectors.

    Raises:
        ValueError: If vectors and words do not fit into the text tower's context.
    """
    tokens, end = prompt_tokens(clip, texts)
    most = clip.room_beside(texts)
    if not 0 <= length <= most:
        msg = f"prompt_length must lie between 0 and {most} for this backbone and these prompts, got {length}"
        raise ValueError(msg)
    words = clip.embed_tokens(tokens[:, : clip.context_length - length])  # what is cut off is padding
    return words.detach(), (end + length).clamp(max=clip.context_length - 1)


def encode_sentences(clip: FrozenClip, texts: Sequence[str]) -> Tensor:  # (P, D)
    """Encode plain texts, without normalisation; texts longer than CLIP's context are truncated."""
    tokens, end = prompt_tokens(clip, texts)
    return clip.encode_text(clip.embed_tokens(tokens), end)


def _learns(sources: Sequence[Tensor]) -> bool:
    return torch.is_grad_enabled() and any(source.requires_grad for source in sources)
