"""What `detect` costs beside the model's own forward on an image that is ready: reading, resizing, map and picture."""

from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from measuring import Case, Run, inference, main
from PIL import Image

HEIGHT, WIDTH = 1500, 2000
"""Of the photograph, in pixels."""


def model_over(backbone: str) -> Any:
    from anomalib_zsad import AFClip

    torch.manual_seed(0)
    model = AFClip(backbone, pretrained=None).eval()
    model.trained_on = ["nothing"]
    return model


def photograph() -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT // 20, WIDTH // 20, 3), np.uint8)
    path = Path(mkdtemp(), "photograph.jpg")
    Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path)
    return path


def detecting(use: Any) -> Case:
    """Call `detect` on a file, and use what it returns."""

    def case(backbone: str) -> Run:
        model, file = model_over(backbone), photograph()
        return lambda: use(model.detect(file))

    return case


CASES: dict[str, Case] = {
    "bare": lambda backbone: inference(model_over(backbone)),
    "detect": detecting(lambda found: found.score),
    "detect, map and mask": detecting(lambda found: found.mask),
    "detect, picture": detecting(lambda found: found._repr_png_()),
}

if __name__ == "__main__":
    main(__doc__, __file__, CASES)
