"""The knowledge base in the training of KAnoCLIP; prediction does not use it."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from anomalib_zsad.data.item import categories_of
from anomalib_zsad.functional.processes import known_to_processes, sum_over_processes
from anomalib_zsad.knowledge import KnowledgeBase, load_knowledge
from anomalib_zsad.models.kano_clip.loss import knowledge_distances
from anomalib_zsad.models.parts.class_names import dataset_of
from anomalib_zsad.models.parts.record import Record
from anomalib_zsad.seam.trainers import datamodule_of

logger = logging.getLogger(__name__)


class KnowledgeMixin:
    """Selects descriptions for the knowledge-driven loss, and records the knowledge base.

    It is mixed into `KAnoClip` and uses its model and its hyper-parameters.
    """

    knowledge_sha256: str | None = None
    """SHA-256 of the knowledge base of the training; None before a training."""
    _knowledge: KnowledgeBase | None = None

    @property
    def knowledge(self) -> KnowledgeBase:
        """The knowledge base, read on first use; prediction does not use it."""
        if self._knowledge is None:
            self._knowledge = load_knowledge(self._module.hparams["knowledge"])
            self.knowledge_sha256 = self._knowledge.sha256
        return self._knowledge

    def categories_of(self, batch: Any) -> list[str]:
        """Return the category of every image, as its dataset calls it."""
        datamodule = datamodule_of(self._module)
        return list(categories_of(batch, datamodule, self._module.hparams["class_name"]))

    def knowledge_distances(
        self,
        batch: Any,
        text: Tensor,  # (B, S, D)
    ) -> Tensor | None:  # (n, S)
        """Compute the distances of prompts from the knowledge, for each class of a batch, all, or each image, eq. 2."""
        if not self._module.hparams["use_knpl"]:
            return None
        categories = self.categories_of(batch)
        paths = getattr(batch, "image_path", None) or [None] * len(categories)
        rows = list(
            range(len(categories)) if self._module.choices.kd_scope == "image" else _first_rows(categories).values()
        )
        targets = self._targets([(categories[i], paths[i]) for i in rows])
        text = torch.stack([text[row] for row in rows])  # a list as index would be copied to the device, and waited for
        if self._module.choices.kd_scope == "global":
            shares, _ = _shares(list(_first_rows(categories)))
            weights = torch.tensor(shares).to(text.device, non_blocking=True)
            targets, text = (
                sum_over_processes(torch.einsum("n,n...->...", weights, each))[None] for each in (targets, text)
            )
        return knowledge_distances(targets, text)

    def knowledge_shares(self, batch: Any) -> Tensor | None:  # (n,)
        """Compute weights of the classes of a batch that are equal in the mean over all processes of a training.

        None where a plain mean is enough: for images, for classes that all processes have, and in a single process.
        """
        if not self._module.hparams["use_knpl"] or self._module.choices.kd_scope != "class":
            return None
        shares, processes = _shares(list(_first_rows(self.categories_of(batch))))
        return None if processes == 1 else (processes * torch.tensor(shares)).to(batch.image.device, non_blocking=True)

    def setup(self, stage: str) -> None:
        """Read the knowledge base before training."""
        super().setup(stage)  # type: ignore[misc]
        self._knowledge = None  # left by an interrupted training
        options = self._module.hparams
        if stage == TrainerFn.FITTING and options["use_knpl"]:
            logger.info("Knowledge base %s: %d classes.", options["knowledge"], len(self.knowledge.classes))

    def on_train_start(self) -> None:
        """Log the initial distances of each class: with d(k, a) below d(k, n) its loss is 0."""
        super().on_train_start()  # type: ignore[misc]
        own = self._module.hparams["class_name"]
        categories = [own] if own else [name.split("/", 1)[1] for name in self._module.training_sets if "/" in name]
        if not self._module.hparams["use_knpl"] or not categories:
            return
        with torch.no_grad():
            text = self._module.model.text_features([self._module.class_names.describe(name) for name in categories])
            targets = self._targets([(name, None) for name in categories])
            distances = knowledge_distances(targets, text)
        for name, (normal, abnormal) in zip(categories, distances.tolist(), strict=True):
            logger.info("%s: d(k, a) = %.4f, d(k, n) = %.4f before training", name, abnormal, normal)

    def on_fit_end(self) -> None:
        """Release the knowledge base: only training uses it."""
        super().on_fit_end()  # type: ignore[misc]
        self._knowledge = None

    def record(self) -> Record:
        """Add the digest of the knowledge base of the training."""
        record: Record = super().record()  # type: ignore[misc]
        return {**record, "knowledge_sha256": self.knowledge_sha256}

    def take(self, record: Record) -> None:
        """Restore the digest of the knowledge base of the training."""
        super().take(record)  # type: ignore[misc]
        saved = record.get("knowledge_sha256")
        if self._knowledge is None:
            self.knowledge_sha256 = saved
        elif saved != self._knowledge.sha256:
            logger.warning("Training goes on with another knowledge base than the one that it began with.")

    def _targets(
        self,
        of: Sequence[tuple[str, str | Path | None]],  # n categories, each with the path of an image
    ) -> Tensor:  # (n, D)
        """Average descriptions, eq. 3, with equal weights for all, or for both groups of them."""
        groups = [self._texts(*each) for each in of]
        if self._module.choices.kd_weighting == "count":
            groups = [[[text for group in each for text in group]] for each in groups]
        means = self._module.model.knowledge_of([group for each in groups for group in each])
        return torch.stack([each.mean(0) for each in means.split([len(each) for each in groups])])

    def _texts(self, category: str, path: str | Path | None) -> list[list[str]]:
        """Return the descriptions of a class, and those of its images or of one image if there are any."""
        dataset = None if self._module.hparams["class_name"] else dataset_of(self._module, category)
        of_class = self.knowledge.class_texts(category, dataset)
        if self._module.choices.kd_scope != "image" or path is None:
            of_images = self.knowledge.all_image_texts(category, dataset)
        else:
            of_images = self.knowledge.image_texts(category, path, dataset)
        return [of_class, of_images] if of_images else [of_class]

    @property
    def _module(self) -> Any:  # this mixin is always mixed into a KAnoClip
        return self


def _first_rows(categories: Sequence[str]) -> dict[str, int]:
    """Return the row of the first image of every class."""
    return {categories[row]: row for row in reversed(range(len(categories)))}


def _shares(classes: Sequence[str]) -> tuple[list[float], int]:
    """Compute weights of classes that are equal over all processes and add up to 1.

    Returns:
        The weights of these classes, and the number of processes.
    """
    everyones = known_to_processes(classes)
    counts = Counter(name for each in everyones for name in each)
    return [1 / (len(counts) * counts[name]) for name in classes], len(everyones)
