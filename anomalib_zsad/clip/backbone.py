"""The frozen CLIP: taps, edits and text encoding."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomalib_zsad.arguments import ImageSize, checked
from anomalib_zsad.clip.blocks import Activation, Attend, Edit, run_blocks, run_with_value_stream
from anomalib_zsad.clip.embedded import default_size
from anomalib_zsad.clip.loading import load_shared
from anomalib_zsad.clip.tokens import tokens_of

PositionResize = Literal["bilinear", "bicubic_antialias"]


class FrozenClip(nn.Module):
    """A CLIP vision transformer with its text tower that is never trained and never leaves eval mode.

    Args:
        clip: An `open_clip.CLIP` with a vision transformer; shared, never changed.
        image_size: Height and width in pixels; the position embedding of this size is kept ready. Images of other
            sizes work too, when their sides are multiples of the patch size.
        activation: "quick_gelu" for OpenAI's weights as they were trained, "gelu" where a method asks for it.
        position_resize: How the grid of position embeddings is brought to another size: "bilinear" (no antialias) or
            "bicubic_antialias"; both with align_corners=False.
        identity: What is known of the weights (`load` fills it in).

    Raises:
        ValueError: If the image size is no multiple of the patch size, or there is no such activation or resizing.
    """

    positions: Tensor

    @checked
    def __init__(
        self,
        clip: nn.Module,
        image_size: ImageSize,
        activation: Activation = "quick_gelu",
        position_resize: PositionResize = "bilinear",
        identity: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.activation = activation
        self.position_resize = position_resize
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.image_size = (height, width)
        self.identity = {
            **(identity or {}),
            "activation": activation,
            "position_resize": position_resize,
            "image_size": list(self.image_size),
        }
        self.register_buffer("positions", self._resize_positions(self.grid_of(*self.image_size)), persistent=False)
        self.requires_grad_(False)
        self.eval()
        self.register_load_state_dict_post_hook(_expect_no_weights)

    @classmethod
    def load(
        cls,
        backbone: str = "ViT-L-14-336",
        pretrained: str | Path | None = "openai",
        image_size: int | tuple[int, int] | None = None,
        activation: Activation = "quick_gelu",
        position_resize: PositionResize = "bilinear",
    ) -> "FrozenClip":
        """Load a CLIP by open_clip name and tag, or from a local file.

        One set of weights serves all models of a process that ask for the same name and tag.

        Args:
            backbone: An open_clip model name; not used where `pretrained` is a file, whose shapes tell the
                architecture.
            pretrained: A tag of open_clip, a file, or None for untrained weights (tests and benchmarks).
            image_size: As in the class. None: that of `default_size`.
            activation: As in the class.
            position_resize: As in the class.

        Raises:
            ValueError: If the name, tag or file is unknown, unreadable or no CLIP vision transformer.
            OSError: If the weights can neither be found nor downloaded.
        """
        clip = load_shared(backbone, pretrained)
        return cls(
            clip,
            image_size or default_size(backbone),
            activation,
            position_resize,
            identity=cast("dict", clip.identity),
        )

    def train(self, mode: bool = True) -> "FrozenClip":  # noqa: ARG002
        """Stay in eval mode: CLIP is never trained."""
        return super().train(mode=False)

    def state_dict(self, *_: Any, destination: Any = None, **__: Any) -> Any:
        """Return no weights: `identity` names them, so checkpoints are small and load strictly."""
        return {} if destination is None else destination

    @property
    def patch_size(self) -> tuple[int, int]:
        """Height and width of a patch in pixels."""
        return cast("tuple[int, int]", self._vision.patch_size)

    @property
    def vision_width(self) -> int:
        """C, the width of the vision stream."""
        return int(self._vision.conv1.out_channels)

    @property
    def text_width(self) -> int:
        """The width of the text stream."""
        return int(self._clip.token_embedding.embedding_dim)

    @property
    def joint_width(self) -> int:
        """D, the width of the space that images and texts share."""
        return int(self._clip.text_projection.shape[1])

    @property
    def n_blocks(self) -> int:
        """Blocks of the vision tower."""
        return len(self._vision.transformer.resblocks)

    @property
    def n_text_blocks(self) -> int:
        """Blocks of the text tower."""
        return len(self._clip.transformer.resblocks)

    @property
    def context_length(self) -> int:
        """Positions of the text tower."""
        return int(self._clip.positional_embedding.shape[0])

    @property
    def ln_post(self) -> nn.LayerNorm:
        """The layer norm in front of the visual projection."""
        return cast("nn.LayerNorm", self._vision.ln_post)

    @property
    def projection(self) -> Tensor:
        """The visual projection into the joint space, (C, D)."""
        return cast("Tensor", self._vision.proj)

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """Count the patches of an image along its height and its width.

        Raises:
            ValueError: If a side is no multiple of the patch size.
        """
        patch_height, patch_width = self.patch_size
        if height % patch_height or width % patch_width or not height or not width:
            msg = (
                f"image_size must be a multiple of the patch size {patch_height} x {patch_width} on both sides, "
                f"and so must tile where it is given, got {height} x {width}"
            )
            raise ValueError(msg)
        return height // patch_height, width // patch_width

    def quarters(self) -> list[int]:
        """Name the last block of each quarter of the vision tower: 6, 12, 18, 24 at ViT-L."""
        return [self.n_blocks * i // 4 for i in range(1, 5)]

    def check_layers(self, layers: Sequence[int] | None) -> list[int]:
        """Check that taps name blocks of the vision tower, counted from 1; None stands for those of `quarters`.

        Raises:
            ValueError: If there is none, or one that the tower does not have.
        """
        layers = self.quarters() if layers is None else layers
        if not layers or any(not 1 <= layer <= self.n_blocks for layer in layers):
            msg = f"feature_layers must name blocks from 1 to {self.n_blocks} of this backbone, got {list(layers)}"
            raise ValueError(msg)
        return list(layers)

    def encode_patches(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
        layers: Sequence[int],
        edit: Edit | None = None,
        checkpointing: bool = False,
        beside: Tensor | None = None,  # (M, C)
        attend: Attend | None = None,
    ) -> list[Tensor]:  # L x (B, 1 + N, C)
        """Read the residual stream of the vision tower right after the given blocks (1-based, no ln_post).

        With `checkpointing` the backward pass computes the blocks again instead of keeping their intermediate results.
        Tokens `beside` those of the image are appended to the stream, where `edit` sees them, and left out of the taps.
        """
        blocks, stream = self._vision.transformer.resblocks, self._embed(images)
        length = stream.shape[1]
        if beside is not None:
            stream = torch.cat([stream, beside.expand(stream.shape[0], -1, -1).to(stream.dtype)], dim=1)
        taps = run_blocks(blocks, stream, layers, self.activation, edit, attend, checkpointing=checkpointing)
        return [tap[:, :length] for tap in taps]

    def encode_patches_vv(
        self,
        images: Tensor,  # (B, 3, H, W), normalised
        layers: Sequence[int],
        start: int,
        feed_forward: bool = False,
    ) -> tuple[list[Tensor], Tensor]:  # L x (B, 1 + N, C), and (B, 1 + N, C)
        """Read a second stream, which from block `start` on gathers the V-V attention of the first and nothing else.

        With `feed_forward` it goes through that part of the blocks as well.

        Returns:
            The second stream right after the given blocks, where it is the first one before `start`; and the first
            one after the last block, equal to the bit to that of `encode_patches`.

        Source: KAnoCLIP eq. 5-8.
        """
        blocks, stream = self._vision.transformer.resblocks, self._embed(images)
        return run_with_value_stream(blocks, stream, layers, self.activation, start, feed_forward)

    def without_text(self) -> "FrozenClip":
        """Copy this CLIP without its text tower; the weights of the vision tower are shared."""
        return self._without("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")

    def without_vocabulary(self) -> "FrozenClip":
        """Copy this CLIP without its word embeddings, for prompts that hold theirs; all other weights are shared."""
        return self._without("token_embedding")

    def block_weights(self) -> list[Tensor]:
        """The matrices of the vision tower's blocks: what nearly all arithmetic is spent on."""
        return [weight for weight in self._vision.transformer.parameters() if weight.ndim == 2]

    def project(
        self,
        tokens: Tensor,  # (..., C)
    ) -> Tensor:  # (..., D)
        """Bring vision tokens into the joint space: ln_post, then the visual projection."""
        return self.ln_post(tokens) @ self.projection

    def tokenize(self, texts: Sequence[str]) -> Tensor:  # (P, context_length)
        """Turn texts into token numbers: start, words, end, zeros."""
        return tokens_of(tuple(texts), self.context_length)

    def embed_tokens(
        self,
        tokens: Tensor,  # (P, T) token numbers
    ) -> Tensor:  # (P, T, Ct)
        """Look up word embeddings, without positions."""
        return self._clip.token_embedding(tokens)

    def encode_words(
        self,
        words: Tensor,  # (P, T, Ct), T <= context_length
        layers: Sequence[int],
        edit: Edit | None = None,
    ) -> list[Tensor]:  # x (P, T, Ct)
        """Read the residual stream of the text tower right after the given blocks (1-based, no ln_final)."""
        stream = words + self._clip.positional_embedding[: words.shape[1]]
        return run_blocks(self._clip.transformer.resblocks, stream, layers, self.activation, edit, causal=True)

    def encode_text(
        self,
        words: Tensor,  # (P, T, Ct), T <= context_length
        end: Tensor,  # (P,) the position that is read
        edit: Edit | None = None,
    ) -> Tensor:  # (P, D)
        """Encode prompts given as word embeddings, so that some of the words may be learnt."""
        (stream,) = self.encode_words(words, [self.n_text_blocks], edit)
        # Not len(): it would fix the number of prompts of an exported graph.
        read = stream[torch.arange(stream.shape[0], device=stream.device), end]
        return self._clip.ln_final(read) @ self._clip.text_projection

    def _without(self, *parts: str) -> "FrozenClip":
        copy = deepcopy(self, {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())})
        for name in parts:
            setattr(copy.clip, name, None)
        return copy

    @property
    def _clip(self) -> Any:  # open_clip's classes are not typed
        return self.clip

    @property
    def _vision(self) -> Any:
        return self._clip.visual

    def _embed(
        self,
        images: Tensor,  # (B, 3, H, W)
    ) -> Tensor:  # (B, 1 + N, C)
        grid = self.grid_of(*images.shape[-2:])
        ready = grid == self.grid_of(*self.image_size)
        positions = self.positions if ready else self._resize_positions(grid)
        patches = self._vision.conv1(images).flatten(2).transpose(1, 2)
        batch = images.shape[0]  # len() would fix the batch size of an exported graph
        first = self._vision.class_embedding.expand(batch, 1, -1).to(patches.dtype)
        return self._vision.ln_pre(torch.cat([first, patches], dim=1) + positions)

    def _resize_positions(self, grid: tuple[int, int]) -> Tensor:  # (1 + N, C)
        embedding = self._vision.positional_embedding.detach()
        trained = self._vision.grid_size
        if tuple(trained) == grid:
            return embedding
        patches = embedding[1:].T.reshape(1, -1, *trained)
        mode = "bilinear" if self.position_resize == "bilinear" else "bicubic"
        antialias = self.position_resize == "bicubic_antialias"
        patches = F.interpolate(patches, size=grid, mode=mode, align_corners=False, antialias=antialias)
        return torch.cat([embedding[:1], patches[0].flatten(1).T])


def _expect_no_weights(clip: FrozenClip, keys: Any) -> None:
    own = tuple(name for name, _ in clip.named_parameters())
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.endswith(own)]
