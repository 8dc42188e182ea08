"""Whoever looks for what is unusual in the statistics of pixels finds no defects: normal pictures vary too much."""

import numpy as np
from torch import Tensor, tensor
from torchmetrics.functional.classification import binary_auroc

from anomalib_zsad.synthetic.drawing import CATEGORIES, UNSEEN, draw
from tests.synthetic.drawing import pixel_statistics as statistics

SIZE = 112
GOOD, DEFECTIVE = 14, 2


def auroc(
    scores: np.ndarray,  # (N,)
    labels: np.ndarray,  # (N,) bool
) -> float:
    # In [0, 1]: torchmetrics squashes what is outside.
    share: Tensor = tensor((scores - scores.min()) / max(float(np.ptp(scores)), 1e-9))
    return binary_auroc(share, tensor(labels).int()).item()


def measure(category: str) -> dict[str, float]:
    normal = [statistics.features(draw(category, 10_000 + seed, None, SIZE).image) for seed in range(GOOD)]
    pictures = [draw(category, seed, None, SIZE) for seed in range(GOOD)]
    for number, defect in enumerate(CATEGORIES[category].defects):
        pictures += [draw(category, 1000 * (number + 1) + seed, defect, SIZE) for seed in range(DEFECTIVE)]
    images, masks = [p.image for p in pictures], np.stack([p.mask for p in pictures])
    labels, values = masks.any((1, 2)), [statistics.features(image) for image in images]
    maps = {
        "own deviation": [statistics.own_deviation(each) for each in values],
        "contrast": [statistics.contrast(image) for image in images],
        "rare colour": [statistics.rare_colour(image) for image in images],
        "deviation from normal": statistics.deviation_from_normal(values, normal),
    }
    figures = {"image, distance from normal": auroc(np.array(statistics.distance_from_normal(values, normal)), labels)}
    for name, shown in maps.items():
        scores = np.stack(shown)
        figures[f"pixel, {name}"] = auroc(scores[:, ::2, ::2].ravel(), masks[:, ::2, ::2].ravel())
        figures[f"image, {name}, highest"] = auroc(scores.max((1, 2)), labels)
        figures[f"image, {name}, mean"] = auroc(scores.mean((1, 2)), labels)
    return figures


def test_statistics_of_pixels_do_not_find_defects() -> None:
    measured = [measure(category) for category in UNSEEN]
    means = {name: float(np.mean([figures[name] for figures in measured])) for name in measured[0]}
    print(*(f"{name:40} {value:.3f}" for name, value in means.items()), sep="\n")

    assert all(value < 0.65 for name, value in means.items() if name.startswith("image"))
    assert all(value < 0.86 for name, value in means.items() if name.startswith("pixel"))
