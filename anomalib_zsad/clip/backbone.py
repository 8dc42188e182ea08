"""The frozen CLIP: taps, edits and text encoding."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from anomalib_zsad.arguments import ImageSize, checked
from anomalib_zsad.clip.blocks import Activation, Attend, Edit, TowerActivation
from anomalib_zsad.clip.known_weights import is_trained_with_gelu
from anomalib_zsad.clip.loading import load_shared
from anomalib_zsad.clip.named import default_size
from anomalib_zsad.clip.needs import Needs
from anomalib_zsad.clip.plain_vision import LinearHead, PlainVision
from anomalib_zsad.clip.positions import PositionResize
from anomalib_zsad.clip.text_tower import TextTower
from anomalib_zsad.clip.timm_vision import TimmVision
from anomalib_zsad.clip.tokens import hub_tokenizer, hub_tokens_of, tokens_of


class FrozenClip(nn.Module):
    """A CLIP with a vision transformer that is never trained and never leaves eval mode.

    Shapes are those of a tower with a class token; the towers of SigLIP have none, and their taps are (B, N, C).

    Args:
        clip: An `open_clip.CLIP` with a vision transformer, or an `open_clip.CustomTextCLIP` over one of timm; shared,
            never changed.
        image_size: Height and width in pixels; the position embedding of this size is kept ready. Images of other
            sizes work too, when their sides are multiples of the patch size.
        activation: "quick_gelu" for OpenAI's weights as they were trained, "gelu" where a method needs it; over a
            tower of timm "own", whatever is given: both towers keep their modules.
        position_resize: How the grid of position embeddings is brought to another size: "bilinear" (no antialias) or
            "bicubic_antialias"; both with align_corners=False.
        identity: What is known of the weights (`load` fills it in).

    Raises:
        ValueError: If the image size is no multiple of the patch size, or there is no such activation or resizing.
    """

    positions: Tensor
    rotations: Tensor | None

    @checked
    def __init__(
        self,
        clip: nn.Module,
        image_size: ImageSize,
        activation: TowerActivation = "quick_gelu",
        position_resize: PositionResize = "bilinear",
        identity: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.clip = clip
        self.activation: TowerActivation = "own" if self.is_timm else activation
        self.position_resize = position_resize
        self._hub_tokenizer = hub_tokenizer(str(identity["backbone"])) if identity and self.is_timm else None
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.image_size = (height, width)
        self.identity = {
            **(identity or {}),
            "activation": self.activation,
            "position_resize": position_resize,
            "image_size": list(self.image_size),
        }
        grid = self.grid_of(*self.image_size)
        self.register_buffer("positions", self._vision.positions(grid, position_resize), persistent=False)
        self.register_buffer("rotations", self._vision.rotations(grid), persistent=False)
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
        needs: Needs | None = None,
    ) -> "FrozenClip":
        """Load a CLIP by open_clip name and tag, or from a local file.

        All models of a process with the same name and tag share one set of weights.

        Args:
            backbone: An open_clip model name; not used where `pretrained` is a file of a plain CLIP, whose shapes
                determine the architecture.
            pretrained: A tag of open_clip, a file, or None for untrained weights (tests and benchmarks).
            image_size: As in the class. None: that of `default_size`.
            activation: As in the class; "gelu" for tags that open_clip says were trained with it.
            position_resize: As in the class.
            needs: What the method needs of the backbone.

        Raises:
            ValueError: If the name, tag or file is unknown, unreadable or no CLIP with a vision transformer, or does
                not have what is needed.
            OSError: If the weights can neither be found nor downloaded.
        """
        if needs is not None:
            needs.check(backbone)
        if pretrained is not None and is_trained_with_gelu(backbone, str(pretrained)):
            activation = "gelu"
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
    def is_timm(self) -> bool:
        """Whether the vision tower is one of timm."""
        return hasattr(self._clip.visual, "trunk")

    @property
    def patch_size(self) -> tuple[int, int]:
        """Height and width of a patch in pixels."""
        return self._vision.patch_size

    @property
    def vision_width(self) -> int:
        """C, the width of the vision stream."""
        return self._vision.width

    @property
    def text_width(self) -> int:
        """Ct, the width of the text stream."""
        return self._text.width

    @property
    def joint_width(self) -> int:
        """D, the width of the space that images and texts share."""
        return self._text.joint_width

    @property
    def n_blocks(self) -> int:
        """The number of blocks of the vision tower."""
        return len(self._vision.blocks)

    @property
    def n_text_blocks(self) -> int:
        """The number of blocks of the text tower."""
        return self._text.n_blocks

    @property
    def context_length(self) -> int:
        """The number of positions of the text tower."""
        return self._text.context_length

    @property
    def start_tokens(self) -> int:
        """Tokens in front of the words of a text: 1, or 0 with the tokenizers of SigLIP."""
        return self._text.start_tokens

    @property
    def marker(self) -> Tensor:
        """A weight whose device is that of CLIP, and whose version changes with the weights."""
        return self._vision.marker

    @property
    def linear_head(self) -> LinearHead | None:
        """How tokens come to the joint space, where that takes a layer norm and a linear map; None for others."""
        return self._vision.linear_head

    @property
    def ln_post(self) -> nn.LayerNorm:
        """The layer norm in front of the visual projection of a plain CLIP."""
        return cast("nn.LayerNorm", self._clip.visual.ln_post)

    @property
    def projection(self) -> Tensor:
        """The visual projection of a plain CLIP into the joint space, (C, D)."""
        return cast("Tensor", self._clip.visual.proj)

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
        stream, rotations = self._embed(images)
        length = stream.shape[1]
        if beside is not None:
            stream = torch.cat([stream, beside.expand(stream.shape[0], -1, -1).to(stream.dtype)], dim=1)
        taps = self._vision.run(stream, layers, rotations, edit, attend, checkpointing)
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
        stream, rotations = self._embed(images)
        return self._vision.run_with_values(stream, layers, start, rotations, feed_forward)

    def without_text(self) -> "FrozenClip":
        """Copy this CLIP without its text tower; the weights of the vision tower are shared."""
        parts = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")
        return self._without(*parts) if not self.is_timm else self._without("text")

    def without_vocabulary(self) -> "FrozenClip":
        """Copy this plain CLIP without its word embeddings, for prompts that hold theirs; other weights are shared."""
        return self._without("token_embedding")

    def block_weights(self) -> list[Tensor]:
        """The matrices of the vision tower's blocks: what nearly all arithmetic is spent on."""
        return [weight for weight in self._vision.blocks.parameters() if weight.ndim == 2]

    def project(
        self,
        tokens: Tensor,  # (..., C)
    ) -> Tensor:  # (..., D)
        """Bring vision tokens into the joint space, each by itself: the last layer norm, then the tower's head.

        A head that pools by attention sees one token at a time.
        """
        return self._vision.project(tokens)

    def pool(
        self,
        tokens: Tensor,  # (B, 1 + N, C) after the last block
    ) -> Tensor:  # (B, D)
        """Compute the feature of each image, as open_clip's `encode_image` does."""
        return self._vision.pool(tokens)

    def project_with_image(
        self,
        tokens: Tensor,  # (B, 1 + N, C) after the last block
    ) -> Tensor:  # (B, 1 + N, D)
        """Bring the patches into the joint space, behind the feature of their image."""
        vision = self._vision
        if vision.pools_class_token:
            return vision.project(tokens)
        return torch.cat([vision.pool(tokens)[:, None], self.project_patches(tokens)], dim=1)

    def project_patches(
        self,
        tokens: Tensor,  # (B, 1 + N, C)
    ) -> Tensor:  # (B, N, D)
        """Bring the patches alone into the joint space."""
        return self._vision.project(tokens[:, self._vision.prefix :])

    def tokenize(self, texts: Sequence[str], *, trim: bool = False) -> Tensor:  # (P, context_length); trimmed (P, T)
        """Turn texts into token numbers: start, words, end, padding.

        Args:
            texts: The texts.
            trim: End where the longest text does, unless the text tower reads what is behind it.

        Raises:
            FileNotFoundError: If the tokenizer of the backbone is not on this machine and cannot be fetched.
        """
        if self._hub_tokenizer is not None:
            return hub_tokens_of(tuple(texts), self._hub_tokenizer, self.context_length)
        return tokens_of(tuple(texts), self.context_length, trim=trim and not self._text.reads_last)

    def ends_of(
        self,
        tokens: Tensor,  # (P, T)
    ) -> Tensor:  # (P,)
        """Return the positions that the text tower is read at: those of the end-of-text tokens, or the last."""
        return self._text.ends(tokens)

    def room_beside(self, texts: Sequence[str]) -> int:
        """Count the learnable vectors that fit into the text tower's context beside texts."""
        return self._text.room_beside(self.tokenize(texts, trim=True))

    def embed_tokens(
        self,
        tokens: Tensor,  # (P, T) token numbers
    ) -> Tensor:  # (P, T, Ct)
        """Look up word embeddings, without positions."""
        return self._text.tower.token_embedding(tokens)

    def encode_words(
        self,
        words: Tensor,  # (P, T, Ct), T <= context_length
        layers: Sequence[int],
        edit: Edit | None = None,
    ) -> list[Tensor]:  # x (P, T, Ct)
        """Read the residual stream of the text tower right after the given blocks (1-based, no ln_final)."""
        return self._text.run(words, layers, edit)

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
        return self._text.project(read)

    def _without(self, *parts: str) -> "FrozenClip":
        copy = deepcopy(self, {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())})
        for name in parts:
            setattr(copy.clip, name, None)
        return copy

    @property
    def _clip(self) -> Any:  # open_clip's classes are not typed
        return self.clip

    @property
    def _vision(self) -> PlainVision | TimmVision:
        return TimmVision(self._clip.visual) if self.is_timm else PlainVision(self._clip.visual, self.activation)

    @property
    def _text(self) -> TextTower:
        return TextTower(self._clip, self.activation)

    def _embed(
        self,
        images: Tensor,  # (B, 3, H, W)
    ) -> tuple[Tensor, Tensor | None]:  # (B, 1 + N, C), and (N, 2 d)
        grid, vision = self.grid_of(*images.shape[-2:]), self._vision
        if grid == self.grid_of(*self.image_size):
            return vision.embed(images, self.positions), self.rotations
        rotations = vision.rotations(grid)
        positions = vision.positions(grid, self.position_resize)
        return vision.embed(images, positions), None if rotations is None else rotations.to(images.device)


def _expect_no_weights(clip: FrozenClip, keys: Any) -> None:
    own = tuple(name for name, _ in clip.named_parameters())
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.endswith(own)]
