"""Scores of normal images that nothing was fitted on: what thresholds with a promise and p-values are made from."""

from collections.abc import Iterable
from datetime import date
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from torch import Tensor

from anomalib_zsad.functional.conformal import conformal_threshold, p_values


class Calibration(BaseModel):
    """The raw scores of normal images, and the rate of false alarms that thresholds are to keep.

    A new normal image of the same process is called anomalous with a probability of at most `false_alarms`, and has any
    anomalous pixel with a probability of at most `false_alarms`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    image_scores: tuple[float, ...] = Field(min_length=1)
    """Raw image scores, ascending."""
    map_maxima: tuple[float, ...] = Field(min_length=1)
    """The highest raw pixel score of each image, ascending."""
    false_alarms: float = Field(gt=0, lt=1)
    """The promised rate."""
    source: str
    """Where the images were."""
    date: str
    """The day of the calibration, as in 2026-11-30."""

    @field_validator("image_scores", "map_maxima")
    @classmethod
    def _are_ordered_probabilities(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 <= value <= 1 for value in values):
            msg = "expected raw scores in [0, 1]"
            raise ValueError(msg)
        return tuple(sorted(values))

    @classmethod
    def of_scores(
        cls,
        image_scores: Iterable[float],
        map_maxima: Iterable[float],
        false_alarms: float,
        source: str,
    ) -> "Calibration":
        """Calibrate on raw scores.

        Raises:
            ValueError: If there are too few images for this rate; the message says how many are needed.
        """
        today = date.today().isoformat()
        scores, maxima = tuple(image_scores), tuple(map_maxima)
        conformal_threshold(scores, false_alarms)  # raises for a wrong rate or number
        return cls(image_scores=scores, map_maxima=maxima, false_alarms=false_alarms, source=source, date=today)

    @classmethod
    def of_record(cls, entry: Any) -> "Calibration | None":
        """Read the entry of a record; None where there is none.

        Raises:
            ValueError: If it is damaged.
        """
        if entry is None:
            return None
        try:
            return cls.model_validate(entry)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            name = ".".join(map(str, fault["loc"]))
            msg = f"the record's calibration is damaged: {name or 'it'}: {fault['msg']}"
            raise ValueError(msg) from None

    def to_record(self) -> dict[str, Any]:
        """Write it as plain data."""
        return self.model_dump(mode="json")

    @property
    def image_threshold(self) -> float:
        """The raw score above which an image is anomalous."""
        return conformal_threshold(self.image_scores, self.false_alarms)

    @property
    def pixel_threshold(self) -> float:
        """The raw score above which a pixel is anomalous."""
        return conformal_threshold(self.map_maxima, self.false_alarms)

    def p_values(
        self,
        scores: Tensor,  # (B,) raw image scores
    ) -> Tensor:  # (B,) float64
        """Return how rare scores as high are among normal images."""
        return torch.from_numpy(p_values(scores.detach().double().cpu().numpy(), self.image_scores)).to(scores.device)

    def __str__(self) -> str:
        n, rate = len(self.image_scores), self.false_alarms
        return f"{n} normal images of {self.source} on {self.date}, false alarms at most {rate:g}"
