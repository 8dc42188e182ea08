"""A line that is watched: every image of a source is scored once, and its row written before the next."""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import torch
from anomalib.visualization import ImageVisualizer

from anomalib_zsad.atomic import write_picture
from anomalib_zsad.evaluation.drawing import ItemDrawing
from anomalib_zsad.evaluation.extra import extra, reason_of
from anomalib_zsad.line.arrivals import Arrival, Source, read_ahead
from anomalib_zsad.line.page import Page
from anomalib_zsad.line.results import Results, Row
from anomalib_zsad.line.scorer import Scored, Scorer

logger = logging.getLogger(__name__)

Pictures = Literal["none", "anomalous", "all"]

_PAGE_SECONDS = 1.0
"""Between two pages, at least."""


def watch(scorer: Scorer, source: Source, out: Path, pictures: Pictures = "none") -> int:
    """Score what comes, until the source ends or the process is asked to (SIGINT, SIGTERM).

    A run goes on where an earlier one of the same folder ended, however it ended.

    Args:
        scorer: The model.
        source: Where images come from.
        out: Folder for `results.jsonl`, `results.csv`, `index.html` and `pictures`.
        pictures: Of which images to draw one.

    Returns:
        How many images were scored in this run.

    Raises:
        OSError: If results cannot be written, or the source is gone.
        ValueError: If another process writes there.
    """
    results, page = Results(out), Page(out / "index.html", scorer, source.name)
    drawing = ItemDrawing(ImageVisualizer())
    number = done = 0
    try:
        for row in results.earlier():
            number = row.number
            source.skip(row.image, row.identity)
            page.add(row)
            if row.score is not None and row.model == scorer.digest:
                page.test(row.score)
        page.write(running=True)
        written = time.monotonic()
        with _stopped_by_signals() as stop:
            for arrival in read_ahead(source, stop):
                if arrival is not None:
                    number, done = number + 1, done + 1
                    row, scored = _row(arrival, number, scorer, page)
                    if scored is not None and (pictures == "all" or (pictures == "anomalous" and scored.is_anomalous)):
                        row = _with_picture(row, arrival, scored, drawing, out)
                    results.add(row)
                    page.add(row)
                if time.monotonic() - written >= _PAGE_SECONDS:
                    page.write(running=True)
                    written = time.monotonic()
    finally:
        with suppress(OSError):  # the error that ended the run is the one to report
            page.write(running=False)
        results.close()
    return done


def _row(arrival: Arrival, number: int, scorer: Scorer, page: Page) -> tuple[Row, Scored | None]:
    began, seconds = time.perf_counter(), None
    scored, error, drift = None, arrival.error, None
    if arrival.pixels is not None:
        try:
            scored = scorer(arrival.pixels)
            seconds = round(time.perf_counter() - began, 6)
        except Exception as failure:  # whatever is wrong with one image, the line goes on
            error = reason_of(failure)
    if error is not None:
        logger.warning("%s: no score: %s", arrival.image, error)
    if scored is not None:
        had_drifted = page.has_drifted
        drift = page.test(scored.score)
        if page.has_drifted and not had_drifted:
            logger.warning(
                "The images up to %s do not score like the calibration (%s): Kolmogorov-Smirnov p = %.2g. The share of "
                "defects is high or the scene has changed: calibrate again.",
                arrival.image,
                scorer.calibration,
                drift,
            )
    row = Row(
        number=number,
        time=datetime.now().astimezone().isoformat(timespec="milliseconds"),
        image=arrival.image,
        score=None if scored is None else scored.score,
        label=None if scored is None else scored.label,
        p_value=None if scored is None else scored.p_value,
        drift=drift,
        error=error,
        seconds=seconds,
        model=scorer.digest,
        identity=arrival.identity,
    )
    return row, scored


def _with_picture(row: Row, arrival: Arrival, scored: Scored, drawing: ItemDrawing, out: Path) -> Row:
    """Draw the picture of an image; its name is its number, since names from outside are no path of ours."""
    place = Path("pictures") / f"{row.number:08d}.jpg"
    fields = {
        "image": arrival.pixels,
        "anomaly_map": torch.from_numpy(scored.anomaly_map),
        "pred_mask": None if scored.mask is None else torch.from_numpy(scored.mask),
    }
    with extra(arrival.image):
        picture = drawing.draw(fields, None if scored.p_value is None else f"p = {scored.p_value:.3g}")
        if picture is not None:
            write_picture(picture, out / place, quality=90)
            return row.model_copy(update={"picture": place.as_posix()})
    return row


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set; a second signal ends the process at once."""
    stop, kinds, before = threading.Event(), (signal.SIGINT, signal.SIGTERM), {}

    def end(number: int, _: Any) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    if threading.current_thread() is threading.main_thread():
        before = {kind: signal.signal(kind, end) for kind in kinds}
    try:
        yield stop
    finally:
        for kind, handler in before.items():
            with suppress(ValueError):
                signal.signal(kind, handler)
