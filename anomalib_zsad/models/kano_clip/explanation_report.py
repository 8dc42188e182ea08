"""An explanation as a table, as files and as a picture."""

import csv
import hashlib
import json
import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from rich.console import Group, RenderableType
from rich.table import Table

from anomalib_zsad.atomic import whole_file, write_picture
from anomalib_zsad.evaluation.extra import extra
from anomalib_zsad.evaluation.sheet import INK, heat_map, new_page, write_line
from anomalib_zsad.models.kano_clip.explanation import Explanation, Match, Patch
from anomalib_zsad.paths import path_component
from anomalib_zsad.printing import cell, printable, shown

_SIDE, _GAP, _LINE, _HEAD = 384, 12, 20, 30  # pixels
_SCORE = 60  # pixels for a number in front of a description
_LETTERS = 105  # of 13 px in the page's width
_SOFT, _MARK = (110, 110, 110), (255, 220, 0)


def tables(explanation: Explanation, count: int) -> RenderableType:
    """Lay out the closest descriptions for the terminal."""
    table = Table("description", "of", "abnormal", "normal", "patches", "above rest")
    for match in explanation.matches[:count]:
        table.add_row(shown(match.text), shown(match.of), *map(_signed, _cosines(match)))
    nearest = Table("description", "of", "abnormal", "normal")
    for match in closest_to_prompt(explanation)[:count]:
        nearest.add_row(shown(match.text), shown(match.of), *map(_signed, _cosines(match)[:2]))
    where = Table("patch", "row", "column", "probability", "closest description")
    for number, patch in enumerate(explanation.patches, 1):
        cells = (number, patch.row, patch.column, f"{patch.probability:.3f}")
        where.add_row(*map(str, cells), shown(patch.text))
    return Group(
        shown(f"{explanation.class_name}: score {explanation.score:.4f}"),
        shown("closest to the abnormal prompts (cosines)"),
        nearest,
        shown("closest to the most anomalous patches"),
        table,
        where,
    )


def stem_for(image: Path) -> str:
    """Return the stem of the files that explain an image, unique for its path.

    Datasets have an image 000.png in every folder: the stem ends in a digest of the path.
    """
    path = image.resolve()
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:6]
    return f"{path_component(f'{path.parent.name}_{path.stem}')}_explained_{digest}"


def save_explanation(explanation: Explanation, folder: Path, stem: str, count: int) -> list[Path]:
    """Write `<stem>.csv` with all descriptions, `<stem>.json` with everything and `<stem>.png`, the picture.

    Args:
        explanation: The explanation.
        folder: The folder of the files.
        stem: Their stem.
        count: Number of descriptions in the picture.

    Returns:
        The files; a picture that cannot be drawn is left out.
    """
    paths = [folder / f"{stem}{suffix}" for suffix in (".csv", ".json", ".png")]
    with whole_file(paths[0]) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Match)])
        writer.writeheader()
        rows = map(asdict, explanation.matches)
        writer.writerows({**row, "text": cell(row["text"]), "of": cell(row["of"])} for row in rows)
    with whole_file(paths[1]) as temporary:
        temporary.write_text(json.dumps(explanation.as_data(), indent=1) + "\n", encoding="utf-8")
    with extra(stem):
        write_picture(draw_explanation(explanation, count), paths[2])
    return [path for path in paths if path.exists()]


def closest_to_prompt(explanation: Explanation) -> list[Match]:
    """Sort the descriptions by their cosine with the abnormal prompts."""
    return sorted(explanation.matches, key=lambda match: -match.abnormal)


def draw_explanation(explanation: Explanation, count: int) -> Image.Image:
    """Draw the image with its most anomalous patches, the heat map, and the closest descriptions below.

    The heat map is drawn from blue, its lowest value, to red, its highest; both are written above it.
    """
    lines = [
        *_block("Closest to the abnormal prompts (cosine)", closest_to_prompt(explanation)[:count], "abnormal"),
        *_block("Closest to the most anomalous patches (cosine)", explanation.matches[:count], "patches"),
    ]
    scale = _SIDE / max(explanation.image.size)
    size = (max(1, round(explanation.image.width * scale)), max(1, round(explanation.image.height * scale)))
    text_top = _HEAD + size[1] + _GAP
    page = new_page(2 * _SIDE + 3 * _GAP, text_top + len(lines) * _LINE + _GAP)
    low, high = float(explanation.anomaly_map.min()), float(explanation.anomaly_map.max())
    panels = (
        (f"{explanation.class_name}: score {explanation.score:.3f}", explanation.image),
        (f"anomaly map from {low:.3f} to {high:.3f}", heat_map(explanation.anomaly_map.numpy())),
    )
    left = _GAP
    for title, panel in panels:
        width = write_line(page, (left, _GAP // 2), title, 16)
        page.paste(panel.convert("RGB").resize(size, Image.Resampling.BICUBIC), (left, _HEAD))
        _mark(
            page,
            explanation.patches,
            (left, _HEAD),
            (size[0] / explanation.image.width, size[1] / explanation.image.height),
        )
        left += min(_SIDE, max(size[0], math.ceil(width))) + _GAP
    for number, (score, words) in enumerate(lines):
        top = text_top + number * _LINE
        write_line(page, (_GAP, top), score, 13, colour=_SOFT)
        write_line(page, (_GAP + _SCORE * bool(score), top), words, 13)
    return page


def _block(title: str, matches: Sequence[Match], column: str) -> list[tuple[str, str]]:
    lines = [("", title)]
    for match in matches:
        first, *rest = textwrap.wrap(printable(match.text), _LETTERS)
        lines += [(_signed(getattr(match, column)), first), *((" ", more) for more in rest)]
    return [*lines, ("", "")]


def _mark(page: Image.Image, patches: Sequence[Patch], corner: tuple[int, int], scale: tuple[float, float]) -> None:
    pen = ImageDraw.Draw(page)
    for number, patch in enumerate(patches, 1):
        box = [corner[i % 2] + patch.box[i] * scale[i % 2] for i in range(4)]
        pen.rectangle(box, outline=_MARK, width=2)
        pen.text(
            (box[0] + 3, box[1] + 1),
            str(number),
            fill=_MARK,
            font=ImageFont.load_default(12),
            stroke_width=1,
            stroke_fill=INK,
        )


def _cosines(match: Match) -> tuple[float, ...]:
    return match.abnormal, match.normal, match.patches, match.above_rest


def _signed(cosine: float) -> str:
    return f"{cosine:+.3f}"
