"""Members of an ensemble: from models and checkpoints, and their description as plain data."""

from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from anomalib.models import AnomalibModule
from torchvision.transforms.v2 import CenterCrop

from anomalib_zsad.arguments import of_machines
from anomalib_zsad.clip.weights import names_a_file
from anomalib_zsad.models.parts.checkpoint import check_readable
from anomalib_zsad.models.parts.detector import Detector
from anomalib_zsad.models.parts.record import KEY, from_checkpoint
from anomalib_zsad.models.parts.settings import nested, settings_of, up_to_date
from anomalib_zsad.seam.anomalib_models import is_fitted
from anomalib_zsad.seam.tensors import sharing_copy


def as_member(
    given: AnomalibModule | str | Path | Mapping[str, Any],
    pretrained: str | Path | None = None,
) -> AnomalibModule:
    """Make a member from a model, a checkpoint or a description.

    Args:
        given: A model, the checkpoint of a model of this package, or the result of `describe`.
        pretrained: The file with the weights of CLIP, if a checkpoint or description names one.

    Returns:
        A module that shares all weights with the given one, without the components that the ensemble has: evaluator,
        visualizer and post-processor.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If a checkpoint does not name its model, names a file with the weights of CLIP that is not given, or
            the member crops images.
    """
    if isinstance(given, Mapping):
        kind = _class_of(given["model"])
        options = nested(up_to_date(kind, given["hyper_parameters"]))
        given = kind(**{**options, **_file_for(options, pretrained, f"member {given['model']}")})
    elif not isinstance(given, AnomalibModule):
        given = _load(given, pretrained)
    _check_sees_whole_images(given)
    member = sharing_copy(given)
    member.post_processor = member.evaluator = member.visualizer = None
    return member.eval()


def describe(member: AnomalibModule) -> dict[str, Any]:
    """Describe a member as plain data, without its trained tensors, which are in the checkpoint."""
    options = {name: value.value if isinstance(value, Enum) else value for name, value in member.hparams.items()}
    if isinstance(member, Detector):
        options.update(settings_of(member), weights=None)  # a file that may be gone by then
        options = {name: value for name, value in options.items() if name not in of_machines(type(member).__init__)}
    return {"model": type(member).__name__, "hyper_parameters": options}


def is_untrained(member: AnomalibModule) -> bool:
    """Whether a member is known to be untrained; anomalib does not record that for models trained by gradients."""
    if isinstance(member, Detector):
        return member.holds_nothing
    return is_fitted(member) is False


def _load(path: str | Path, pretrained: str | Path | None) -> AnomalibModule:
    content = check_readable(path)
    about = content.get(KEY, {})
    if "method" not in about:
        msg = (
            f"{path}: expected a checkpoint of this package, which says what model it is of; one of another model is "
            f"given as a model, such as Padim.load_from_checkpoint(...)"
        )
        raise ValueError(msg)
    settings = from_checkpoint(content, about["method"])["settings"]
    return _class_of(about["method"]).load_from_checkpoint(path, **_file_for(settings, pretrained, str(path)))


def _file_for(options: Mapping[str, Any], pretrained: str | Path | None, what: str) -> dict[str, Any]:
    """Return the file with the weights of CLIP for options that name one.

    Raises:
        ValueError: If there is none.
    """
    file = options.get("pretrained")
    if file is None or not names_a_file(file):
        return {}
    if pretrained is None:
        msg = (
            f"{what} was trained over the weights of CLIP in {file}, a file that is read only if you name it: pass "
            f"--model.pretrained {file} (in Python Ensemble(..., pretrained=...))"
        )
        raise ValueError(msg)
    return {"pretrained": pretrained}


def _class_of(name: str) -> type[AnomalibModule]:
    # Nothing is imported by the name in a file.
    known = {each.__name__: each for each in _descendants(AnomalibModule)}  # type: ignore[type-abstract]
    if name not in known:
        msg = (
            f"expected a member of anomalib, of this package or of a class that is imported already, got one of {name}"
        )
        raise ValueError(msg)
    return known[name]


def _descendants(kind: type[AnomalibModule]) -> Iterator[type[AnomalibModule]]:
    for child in kind.__subclasses__():
        yield child
        yield from _descendants(child)


def _check_sees_whole_images(member: AnomalibModule) -> None:
    transform = getattr(member.pre_processor, "transform", None)
    if any(isinstance(step, CenterCrop) for step in getattr(transform, "transforms", [transform])):
        msg = (
            f"expected members that look at whole images, got a {type(member).__name__} whose pre-processor crops them"
        )
        raise ValueError(msg)
