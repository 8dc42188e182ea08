"""Build a knowledge base: ask a language model about classes and a vision model about images."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import yaml
from rich import progress
from rich.console import Console
from rich.markup import escape

from anomalib_zsad._version import __version__
from anomalib_zsad.clip.digest import hash_file
from anomalib_zsad.knowledge.acceptance import count_tokens, objection, shorten, tidy
from anomalib_zsad.knowledge.answers import Answer
from anomalib_zsad.knowledge.asking import Asker, Origin, Settings
from anomalib_zsad.knowledge.base import check_replaceable, save_knowledge
from anomalib_zsad.knowledge.display_names import display_names
from anomalib_zsad.knowledge.images import AnomalousImage, UnreadableImageError, png_of
from anomalib_zsad.knowledge.journal import Journal
from anomalib_zsad.knowledge.ollama_model import OllamaModel
from anomalib_zsad.knowledge.questions import about_class, about_image
from anomalib_zsad.knowledge.schema import TEMPLATE, ClassTexts, Generator, ImageTexts, Knowledge, Text

logger = logging.getLogger(__name__)

_LONGEST_NAME = 60
_TEMPLATES = Path(__file__).with_name("templates.yaml")

Images = Mapping[str, Sequence[AnomalousImage]]


def build_knowledge(
    classes: Sequence[str],
    out: Path,
    llm: OllamaModel,
    vqa: OllamaModel | None = None,
    images: Images | None = None,
    dataset: str = "",
    settings: Settings | None = None,
) -> Knowledge:
    """Ask about every class and every image, and write the usable answers.

    Every answer is kept in a journal beside the file as soon as it is there; a build that was interrupted goes on where
    it stopped.

    Args:
        classes: The classes, as their dataset calls them.
        out: The file to write, such as `kb.json`; the journal is `kb.jsonl`.
        llm: The language model.
        vqa: The vision model.
        images: The anomalous images of each class that `vqa` is asked about.
        dataset: The dataset's name.
        settings: How to ask.

    Returns:
        What was written.

    Raises:
        ValueError: If a model is missing or cannot see, or if `out` is something else than a base of these classes.
        ConnectionError: If the server cannot be reached, be it only in the middle.
        TimeoutError: If answers do not come in time.
    """
    settings = settings or Settings()
    images = images or {}
    classes = list(dict.fromkeys(classes))
    _check_names(classes)
    check_replaceable(out, classes)
    journal = Journal(out.with_suffix(".jsonl"))
    about_classes = Asker(llm, about_class(settings.n), settings, journal)
    about_images = Asker(vqa, about_image(settings.m), settings, journal, vision=True) if vqa and images else None
    shown = display_names(classes, dataset)
    with progress.Progress(
        *progress.Progress.get_default_columns(), progress.MofNCompleteColumn(), console=Console(stderr=True)
    ) as bar:
        known = {}
        task = bar.add_task("classes", total=len(classes))
        for name in classes:
            bar.update(task, description=escape(name))
            known[name] = _describe_class(about_classes, name, shown[name], settings.n)
            bar.advance(task)
        if about_images:
            task = bar.add_task("images", total=sum(len(images.get(name, ())) for name in classes))
            for name in classes:
                bar.update(task, description=f"{escape(name)} images")
                advance = partial(bar.advance, task)
                known[name] = _describe_images(about_images, known[name], images.get(name, ()), settings.m, advance)
    origins = (
        about_classes.generator(),
        about_images.generator() if about_images else _written("None: no image was asked about."),
    )
    content = Knowledge(
        schema_version=1,
        dataset=dataset,
        # Not the time of this run: the same answers make the same file.
        created=max(origin.created for origin in origins),
        llm=origins[0],
        vqa=origins[1],
        n=settings.n,
        m=settings.m if about_images else 0,
        classes=known,
        others=_others(known),
    )
    save_knowledge(content, out)
    return content


def _check_names(classes: Sequence[str]) -> None:
    if not classes:
        msg = "expected classes to ask about, got none: name some, or data that have some"
        raise ValueError(msg)
    odd = next(
        (name for name in classes if not (name.strip() and name.isprintable() and len(name) <= _LONGEST_NAME)), None
    )
    if odd is not None:
        msg = f"a class is named by 1 to {_LONGEST_NAME} printable characters, got {odd!r}"
        raise ValueError(msg)


def _describe_class(asker: Asker, name: str, shown: str, count: int) -> ClassTexts:
    texts: list[Text] = []
    background = ""
    for origin, answer in asker.answers(shown):
        background = background or tidy(answer.background)
        texts += _usable(answer, origin, [text.text for text in texts])
        if len(texts) >= count:
            break
    if len(texts) < count:
        logger.warning("%d of %d usable descriptions of %s: templates fill the rest.", len(texts), count, name)
        texts += _templates(shown, [text.text for text in texts])
    return ClassTexts(display_name=shown, background=background, llm=texts[:count], vqa={})


def _templates(shown: str, taken: Sequence[str]) -> list[Text]:
    templates = (text.replace("{class}", shown) for text in yaml.safe_load(_TEMPLATES.read_text(encoding="utf-8")))
    return [
        Text(text=text, clip_tokens=count_tokens(text), by=TEMPLATE) for text in templates if not objection(text, taken)
    ]


def _describe_images(
    asker: Asker, known: ClassTexts, images: Sequence[AnomalousImage], count: int, advance: Callable[[], None]
) -> ClassTexts:
    taken = [text.text for text in known.llm]
    seen = {}
    for image in images:
        seen[image.key] = found = _describe_image(asker, known.display_name, image, count, taken)
        taken += [text.text for text in found.descriptions]
        advance()
    return known.model_copy(update={"vqa": seen})


def _describe_image(asker: Asker, name: str, image: AnomalousImage, count: int, taken: Sequence[str]) -> ImageTexts:
    digest = hash_file(image.path)
    status: Literal["ok", "no_anomaly", "rejected", "error"] = "error"
    texts: list[Text] = []
    try:
        for origin, answer in asker.answers(name, digest, partial(png_of, image.path)):
            if not answer.anomaly_visible:
                return ImageTexts(image_sha256=digest, label=1, status="no_anomaly", descriptions=[])
            texts += _usable(answer, origin, [*taken, *(text.text for text in texts)])
            status = "ok" if texts else "rejected"
            if texts or _only_repeats(answer, taken):
                break
    except UnreadableImageError as error:
        logger.warning("%s It is left out.", error)
    return ImageTexts(image_sha256=digest, label=1, status=status, descriptions=texts[:count])


def _only_repeats(answer: Answer, taken: Sequence[str]) -> bool:
    """Return whether there is nothing wrong with an answer but that an earlier image had the same: like defects do."""
    return all(objection(tidy(said), taken) and not objection(tidy(said)) for said in answer.descriptions)


def _usable(answer: Answer, origin: Origin, taken: Sequence[str]) -> list[Text]:
    texts: list[Text] = []
    for said in answer.descriptions:
        text = shorten(tidy(said))
        reason = objection(text, [*taken, *(other.text for other in texts)])
        if reason:
            logger.debug("Not used: %s", reason)
        else:
            texts.append(Text(text=text, clip_tokens=count_tokens(text), attempt=origin.attempt, seed=origin.seed))
    return texts


def _written(note: str) -> Generator:
    return Generator(backend="file", model="", prompt_sha256="", options={}, note=note)


def _others(known: Mapping[str, ClassTexts]) -> dict[str, Generator]:
    used = any(text.by == TEMPLATE for entry in known.values() for text in entry.llm)
    note = f"Templates of anomalib_zsad {__version__}, where a model gave too few usable descriptions."
    return {TEMPLATE: _written(note)} if used else {}
