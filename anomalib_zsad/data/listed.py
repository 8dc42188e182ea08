"""Images by a list of research code, for exactly the published selection."""

import json
import os.path
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from anomalib.data import AnomalibDataModule
from anomalib.data.utils import LabelName, Split

from anomalib_zsad import arguments as arg
from anomalib_zsad.data.auxiliary import Auxiliary
from anomalib_zsad.data.categories import one_category
from anomalib_zsad.data.source import Source
from anomalib_zsad.image_files import inside, missing_among, placed

# Of the two formats: image, mask, category, label.
_JSONL = ("image_path", "mask_path", "class_name", "label")
_META = ("img_path", "mask_path", "cls_name", "anomaly")


class Listed(Auxiliary):
    """Test on the images of a list, or train on its labelled test images.

    Two formats are read: `*.jsonl` of AA-CLIP and ACD-CLIP, one test image on each line (`image_path`, `label`,
    `class_name`, `mask_path`), and `meta.json` of AnomalyCLIP and AdaCLIP (`{"train": {category: [...]}, "test": ...}`
    with `img_path`, `mask_path`, `cls_name`, `anomaly`).

    Args:
        file: The list.
        root: The folder from which its paths start. None: the folder of the list.
        name: The dataset's name, such as "RSDD". None: that of the file, or of its folder where it is a `meta.json`.
        mask_threshold: The highest grey level of a mask, of 255, that still counts as normal. None: 127 for a JPEG,
            whose edges are smeared, 0 for others.
        anywhere: Whether paths may lead out of the root; only for lists that you trust.
        categories: The categories to use. None: all that are listed.
        target: The datamodule to test on, if this one is trained on.
        val_ratio: The share of the training images held out for validation.
        **plumbing: Batch sizes, workers, augmentations and seed, as in `CategoryDataModule`.

    Example:
        >>> datamodule = Listed("./dataset/hub/MVTec.jsonl", root="./datasets/MVTecAD", name="MVTec")
    """

    @arg.checked
    def __init__(
        self,
        file: str | Path,
        root: str | Path | None = None,
        name: arg.Text | None = None,
        mask_threshold: Annotated[int, arg.Range(ge=0, le=254)] | None = None,
        anywhere: bool = False,
        categories: Sequence[str] | None = None,
        target: AnomalibDataModule | None = None,
        val_ratio: arg.ShareBelowOne = 0.1,
        **plumbing: Any,
    ) -> None:
        file = Path(file)
        folder = Path(os.path.abspath(file)).parent  # noqa: PTH100  # a link is called as it is, not as its end
        name = name or (folder.name if file.stem == "meta" else file.stem)
        source = _List(name, file, Path(root or file.parent), mask_threshold, anywhere)
        super().__init__(one_category(source), categories, target, val_ratio, **plumbing)


@dataclass
class _List(Source):
    """The arguments of `Listed` as a source."""

    name: str
    file: Path
    root: Path
    mask_threshold: int | None
    anywhere: bool

    @cached_property
    def all_samples(self) -> pd.DataFrame:
        samples = read_list(self.file, self.root, self.anywhere)
        return samples if self.mask_threshold is None else samples.assign(mask_threshold=self.mask_threshold)

    @property
    def categories(self) -> list[str]:
        return list(self.all_samples["category"].unique())

    def read(self, category: str) -> pd.DataFrame:
        samples = self.all_samples[self.all_samples["category"] == category]
        _check_root(samples["image_path"], self.file, self.root)
        return samples


def read_list(file: Path, root: Path, anywhere: bool = False) -> pd.DataFrame:
    """Read a list of either format.

    Args:
        file: A `*.jsonl` or a `meta.json`.
        root: The folder from which its paths start.
        anywhere: Whether they may lead out of it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has neither format, has no test image, or names a file outside of its root.
    """
    if not file.is_file():
        msg = f"No list of images at {file}: expected a .jsonl or a meta.json, as the code of a publication ships."
        raise FileNotFoundError(msg)
    entries = _lines(file) if file.suffix == ".jsonl" else _splits(file)
    place = partial(placed, root) if anywhere else partial(inside, root, source=file, otherwise=", or anywhere=True")
    samples = pd.DataFrame([_sample(*entry, file, place) for entry in entries])
    if samples.empty or not (samples["split"] == Split.TEST.value).any():
        msg = f"{file} lists no image to test on."
        raise ValueError(msg)
    return samples


def _lines(file: Path) -> Iterator[tuple[Split, dict, Sequence[str]]]:
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if line.strip():
            yield Split.TEST, _parsed(line, f"line {number} of {file}"), _JSONL


def _splits(file: Path) -> Iterator[tuple[Split, dict, Sequence[str]]]:
    content = _parsed(file.read_text(encoding="utf-8-sig"), str(file))
    for split in (Split.TRAIN, Split.TEST):
        of_split = content.get(split.value, {})
        if not isinstance(of_split, dict) or not all(isinstance(entries, list) for entries in of_split.values()):
            msg = f"{file} has no list for each category under {split.value!r}, expected {{category: [image, ...]}}."
            raise ValueError(msg)
        for entries in of_split.values():
            yield from ((split, entry, _META) for entry in entries)


def _parsed(text: str, where: str) -> dict:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        msg = f"Cannot read {where} as JSON: {error}."
        raise ValueError(msg) from error
    if not isinstance(content, dict):
        msg = f"Expected names with values in {where}, got {str(content)[:40]}."
        raise ValueError(msg)
    return content


def _sample(split: Split, entry: Any, names: Sequence[str], file: Path, place: Callable[[str], Path]) -> dict[str, Any]:
    image, mask, category, label = (entry.get(name) if isinstance(entry, dict) else None for name in names)
    are_texts = all(isinstance(each or "", str) for each in (image, mask))
    if not image or not category or not are_texts or label not in (0, 1, "0", "1"):
        msg = f"{file} has the entry {str(entry)[:120]}, expected {', '.join(names)}, the last 0 or 1."
        raise ValueError(msg)
    return {
        "image_path": str(place(image)),
        "mask_path": str(place(mask)) if mask else "",
        "label_index": int(LabelName(int(label))),
        "split": split.value,
        "category": str(category),
    }


def _check_root(images: pd.Series, file: Path, root: Path) -> None:
    missing = missing_among(images)
    if missing:
        msg = (
            f"{len(missing)} of {len(images)} images that {file} lists are not below {root}, {min(missing)} for one: "
            "expected `root` to be the folder from which the paths of the list start."
        )
        raise FileNotFoundError(msg)
