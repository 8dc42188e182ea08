"""How AnomalyCLIP is built, trained and loaded."""

from pathlib import Path
from typing import Any

from anomalib.models import AnomalibModule
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from anomalib_zsad import arguments as arg
from anomalib_zsad.data.soft_mask import BilinearMask
from anomalib_zsad.evaluation.post_processor import MonotonePostProcessor
from anomalib_zsad.functional.scoring import size_of
from anomalib_zsad.functional.seeds import seeded
from anomalib_zsad.models.anomaly_clip.adapter import ObjectPrompts
from anomalib_zsad.models.anomaly_clip.choices import AnomalyChoices
from anomalib_zsad.models.anomaly_clip.dpam import JointTokens, Variant
from anomalib_zsad.models.anomaly_clip.loss import AnomalyClipLoss
from anomalib_zsad.models.anomaly_clip.publication import PUBLICATIONS
from anomalib_zsad.models.anomaly_clip.released import check_words, read_released, settings_in
from anomalib_zsad.models.anomaly_clip.torch_model import AnomalyClipModel
from anomalib_zsad.models.parts.adapter_file import Adapter
from anomalib_zsad.models.parts.common_arguments import documented
from anomalib_zsad.models.parts.compiling import Compile
from anomalib_zsad.models.parts.encoder import Encoder, Precision, vv_start
from anomalib_zsad.models.parts.feature_cache import CacheDtype
from anomalib_zsad.models.parts.heads import ScoreHead
from anomalib_zsad.models.parts.mixin import ZeroShotMixin
from anomalib_zsad.models.parts.record import new_record
from anomalib_zsad.models.parts.runtime import Runtime
from anomalib_zsad.models.parts.trained_weights import load_trained


class AnomalyClip(ZeroShotMixin, AnomalibModule):  # type: ignore[misc]  # what the mixin replaces is typed narrowly
    """AnomalyCLIP: object-agnostic prompt learning for zero-shot anomaly detection (arXiv 2310.18961).

    Two prompts, of a normal and of a damaged object, whatever the object is, are trained once on an auxiliary dataset
    with normal and anomalous images and masks; they are compared with patches whose values attend to each other (DPAM).
    CLIP itself stays as it is, and no class name is used.

    Args:
        feature_layers: Vision blocks whose patches make maps, counted from 1. None: the last one, as the published
            results were made; several are summed in the loss and averaged in the map.
        states: The words of the normal and the anomalous prompt (section 3.2).
        prompt_length: Learnable vectors in front of them (E).
        prompt_depth: Text blocks whose input has learnable tokens, counted from the first, which has the vectors
            themselves; 1 for no deeper ones (eq. 3). None: 9, or all of a backbone that has fewer.
        deep_prompt_length: Learnable tokens in the input of the further blocks, in place of as many vectors.
        variant: "released" is what the published results were made with: V-V attention beside CLIP's own stream, whose
            class token is projected as it is. "paper" follows the text: V-V attention in place of CLIP's own.
        blur_sigma: Standard deviation in pixels of the blur of the final map.
        lambda_local: Weight of the map's losses (lambda of eq. 2).
        lr: Adam's learning rate.
        cache_features: A folder to keep what the backbone computes in training, so that it is computed in the first
            epoch only (see `FeatureCache`); 2 MB an image at the defaults. None: computed in every epoch.
        weights: An adapter file, written by `anomalib-zsad convert` or `save_weights`; "released/anomalyclip-visa" or
            "released/anomalyclip-mvtec", trained by the authors on this dataset, fetched on first use. None: to be
            trained.

    Raises:
        ValueError: If an argument does not fit the backbone.
        OSError: If weights can neither be found nor downloaded.

    Example:
        >>> from anomalib.engine import Engine
        >>> from anomalib_zsad import AnomalyClip, MVTec, VisA
        >>> Engine().train(AnomalyClip(), datamodule=VisA(root="./datasets/visa", target=MVTec()))  # doctest: +SKIP
    """

    paper_batch_size = 8
    soft_masks = BilinearMask
    published = PUBLICATIONS
    model: AnomalyClipModel
    loss: AnomalyClipLoss

    @documented
    @arg.checked
    def __init__(
        self,
        backbone: arg.Text = "ViT-L-14-336",
        pretrained: str | Path | None = "openai",
        image_size: arg.ImageSize | None = None,
        feature_layers: arg.Layers | None = None,
        states: arg.TextPair = ("object.", "damaged object."),
        prompt_length: arg.Count = 12,
        prompt_depth: arg.Count | None = None,
        deep_prompt_length: arg.Count = 4,
        variant: Variant = "released",
        blur_sigma: arg.Sigma = 4.0,
        lambda_local: arg.Weight = 4.0,
        lr: arg.Rate = 1e-3,
        epochs: arg.OfRun[arg.Epochs] = 15,
        tile: arg.ImageSize | None = None,
        tile_overlap: arg.Overlap = 0.25,
        tile_batch: arg.OfRun[arg.Count] = 8,
        precision: Precision = "fp32",
        compile: arg.OfMachine[Compile] = False,
        runtime: arg.OfMachine[Runtime] = "torch",
        cache_features: arg.OfRun[str | Path | None] = None,
        cache_dtype: arg.OfRun[CacheDtype] = "float16",
        image_threshold: arg.Share | None = None,
        pixel_threshold: arg.Share | None = None,
        weights: arg.OfRun[str | Path | None] = None,
        seed: arg.OfRun[arg.Seed] = 111,
        choices: AnomalyChoices = AnomalyChoices(),
        post_processor: MonotonePostProcessor | nn.Module | bool = True,
        **components: Any,
    ) -> None:
        super().__init__(post_processor=post_processor, **components)
        self.assemble(components)

    def build(self) -> None:
        """Make the torch model, the loss and what training needs of the arguments."""
        given: Any = self.hparams
        choices = self.choices = AnomalyChoices(**given.choices)
        clip = self.load_clip("bilinear")
        layers = clip.check_layers([clip.n_blocks] if given.feature_layers is None else given.feature_layers)
        read = JointTokens(vv_start(choices.vv_start_layer, clip), given.variant)
        lengths = (given.prompt_length, given.prompt_depth, given.deep_prompt_length)
        with seeded(given.seed):
            prompts = ObjectPrompts(clip, given.states, *lengths)
        encoder, head = Encoder(clip, layers, given.precision, read), ScoreHead(given.blur_sigma)
        self.model = AnomalyClipModel(encoder, prompts, head, choices.temperature)
        self.loss = AnomalyClipLoss(choices.focal_gamma, given.lambda_local)

    @classmethod
    def load_released(cls, checkpoint: str | Path, **arguments: Any) -> "AnomalyClip":
        """Build the model with a checkpoint that the authors released.

        Args:
            checkpoint: `epoch_15.pth`.
            **arguments: Those of the class; lengths and depth of the prompts are read from the checkpoint where they
                are not given.

        Raises:
            ValueError: If the file is not what it should be, asks for more than tensors, does not fit the backbone, or
                was trained over the words of another one.
        """
        released = read_released(Path(checkpoint))
        model = cls(**{**settings_in(released.tensors), **arguments})
        check_words(released.words, model.model.prompts.words, str(checkpoint))
        load_trained(model, Adapter(released.tensors, new_record(cls.__name__)), origin=str(checkpoint))
        return model

    def loss_terms(self, batch: Any) -> dict[str, Tensor]:
        """Compute the losses, eq. 2."""
        logits = self.model.logits(batch.image)
        maps = self.model.training_maps(logits, size_of(batch.image))
        return self.loss(logits.image, maps, batch.gt_label, self.training_masks(batch))

    def configure_optimizers(self) -> Optimizer:
        """Train the prompts with Adam."""
        return Adam(self.model.prompts.parameters(), lr=self.hparams["lr"], betas=self.choices.betas)
