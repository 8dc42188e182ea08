"""The page that shows how a line runs: one file, which a browser reads again every two seconds."""

from collections import Counter, deque
from datetime import datetime
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from anomalib_zsad.atomic import whole_file
from anomalib_zsad.evaluation.drift import DriftGuard
from anomalib_zsad.line.results import Row
from anomalib_zsad.line.scorer import Scorer

_SHOWN = 25
_RECENT = 500
_BARS, _HIGHEST = 10, 95.0
"""The bars of the histogram of p-values, and the height of the highest in pixels."""


class Page:
    """Counts rows and shows the last ones.

    Args:
        path: The file.
        scorer: The model.
        source: What the images come from.
    """

    def __init__(self, path: Path, scorer: Scorer, source: str) -> None:
        self.path, self.scorer, self.source = path, scorer, source
        self.guard = None if scorer.calibration is None else DriftGuard(scorer.calibration)
        self._counts: Counter[str] = Counter()
        self._rows: deque[Row] = deque(maxlen=_SHOWN)
        self._times: deque[datetime] = deque(maxlen=_SHOWN)
        self._p_values: deque[float] = deque(maxlen=_RECENT)
        self._drifted_at = ""
        environment = Environment(
            loader=PackageLoader("anomalib_zsad", "line"), autoescape=True, undefined=StrictUndefined
        )
        self._template = environment.get_template("page.html")

    @property
    def has_drifted(self) -> bool:
        """Whether the guard has found drift, in this run or an earlier one."""
        return self.guard is not None and self.guard.has_drifted

    def test(self, score: float) -> float | None:
        """Test the next score; return the p-value of a window that ends with it and has drifted."""
        return next(iter(self.guard.add([score])), None) if self.guard else None

    def add(self, row: Row) -> None:
        """Take a row."""
        self._rows.append(row)
        self._times.append(datetime.fromisoformat(row.time))
        self._counts["images"] += 1
        self._counts["errors" if row.error else row.label or "undecided"] += 1
        if row.p_value is not None and row.model == self.scorer.digest:
            self._p_values.append(row.p_value)
        if row.drift is not None:
            self._drifted_at = self._drifted_at or row.time[:19].replace("T", " ")

    def write(self, *, running: bool) -> None:
        """Write the page, whole.

        Args:
            running: Whether more is to come: only then browsers look again.
        """
        shares = np.histogram(self._p_values, bins=_BARS, range=(0, 1))[0] / max(len(self._p_values), 1)
        scale = _HIGHEST / max(shares.max(), 2 / _BARS)
        text = self._template.render(
            running=running,
            source=self.source,
            model=self.scorer.name,
            digest=self.scorer.digest,
            calibration=self.scorer.calibration,
            now=datetime.now().astimezone().isoformat(" ", "seconds"),
            counts={name: self._counts[name] for name in ("images", "normal", "anomalous", "errors")},
            rate=self._rate(),
            guard=self.guard,
            drifted_at=self._drifted_at,
            p_values=self._p_values,
            bars=[round(share * scale, 1) for share in shares],
            even=round(scale / _BARS, 1),
            rows=list(reversed(self._rows)),
            pictures=any(row.picture for row in self._rows),
        )
        with whole_file(self.path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def _rate(self) -> float:
        """Images a minute since the oldest that is shown."""
        if not self._times:
            return 0.0
        seconds = (datetime.now().astimezone() - self._times[0]).total_seconds()
        return 60 * len(self._times) / max(seconds, 1.0)
