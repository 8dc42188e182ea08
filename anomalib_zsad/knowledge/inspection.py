"""Inspection of a knowledge base: overview, details of a class, problems."""

from collections import Counter
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text as Words

from anomalib_zsad.knowledge.acceptance import count_tokens, objection
from anomalib_zsad.knowledge.base import KnowledgeBase
from anomalib_zsad.knowledge.schema import ClassTexts, Generator, Knowledge, Text
from anomalib_zsad.printing import shown


def problems_of(content: Knowledge) -> Iterator[str]:
    """List the problems of a knowledge base of valid form, one line each."""
    for name, entry in content.classes.items():
        yield from (f"{name}: {problem}" for problem in _problems(entry, content))


def overview(base: KnowledgeBase) -> RenderableType:
    """Draw the content of a base and its origin."""
    content = base.content
    table = _table("class", "called", "descriptions", "templates", "images", "of them described")
    for name, entry in content.classes.items():
        described = sum(image.status == "ok" for image in entry.vqa.values())
        templates = sum(bool(text.by) for text in entry.llm)
        counts = (len(entry.llm), templates, len(entry.vqa), described)
        table.add_row(shown(name), shown(entry.display_name), *map(str, counts))
    lines = [
        f"SHA-256 {base.sha256}",
        f"dataset {content.dataset or '-'}, made {content.created or '-'}, {len(content.classes)} classes",
        f"descriptions of classes: {_origin(content.llm)}",
        f"descriptions of images: {_origin(content.vqa)}",
        *(f"{name}: {_origin(other)}" for name, other in content.others.items()),
    ]
    # What is shown takes no markup: nothing that a model wrote is read as an instruction to the terminal.
    return Group(*map(shown, lines), table)


def details(base: KnowledgeBase, class_name: str, dataset: str | None = None) -> RenderableType:
    """Draw all that a base has about a class.

    Raises:
        ValueError: If it does not know the class.
    """
    name = base.find(class_name, dataset)
    if name is None:
        msg = f"no class {class_name!r}, expected one of: {', '.join(base.classes)}"
        raise ValueError(msg)
    entry = base.content.classes[name]
    table = _table("of", "description", "tokens", "by")
    for text in entry.llm:
        table.add_row("class", *_cells(text, base.content.llm))
    for key, image in entry.vqa.items():
        for text in image.descriptions:
            table.add_row(shown(key), *_cells(text, base.content.vqa))
        if image.status != "ok":
            table.add_row(shown(key), image.status, "", "")
    return Group(shown(f"{name}, called {entry.display_name}"), shown(f"normal: {entry.background or '-'}"), table)


def _table(*titles: str) -> Table:
    """Make a table that wraps long words, such as paths, instead of truncating them."""
    return Table(*(Column(title, overflow="fold") for title in titles))


def _problems(entry: ClassTexts, content: Knowledge) -> Iterator[str]:
    if len(entry.llm) < content.n:
        yield f"{len(entry.llm)} descriptions, expected {content.n}"
    seen: list[str] = []
    for text in entry.llm:
        yield from _problems_of_text(text, seen, content)
        seen.append(text.text)
    for key, image in entry.vqa.items():
        if (image.status == "ok") != bool(image.descriptions):
            yield f"{key} has status {image.status} and {len(image.descriptions)} descriptions"
        for text in image.descriptions:
            yield from _problems_of_text(text, seen, content)
            seen.append(text.text)
    for digest, count in Counter(image.image_sha256 for image in entry.vqa.values()).items():
        if count > 1:
            yield f"{count} entries of the same image {digest[:12]}"


def _problems_of_text(text: Text, seen: list[str], content: Knowledge) -> Iterator[str]:
    if reason := objection(text.text, seen):
        yield f"{text.text!r}: {reason}"
    if (tokens := count_tokens(text.text)) != text.clip_tokens:
        yield f"{text.text!r}: clip_tokens is {text.clip_tokens}, expected {tokens}"
    if text.by and text.by not in content.others:
        yield f"{text.text!r}: by {text.by!r}, expected one of the base's others"


def _origin(generator: Generator) -> str:
    if generator.backend == "file":
        return f"written, not asked of a model. {generator.note}".rstrip()
    options = ", ".join(f"{name} {value}" for name, value in generator.options.items())
    # Options are free; all else is checked when a base is read.
    options = "".join(filter(str.isprintable, options))
    return f"{generator.model} {generator.digest[:12]} on {generator.created}, {options}"


def _cells(text: Text, generator: Generator) -> tuple[Words, str, Words]:
    return shown(text.text), str(text.clip_tokens), shown(text.by or generator.model or "written")
