"""Speed and memory of AF-CLIP beside the bare forward of open_clip's vision tower, as ratios in one run.

python benchmarks/af_clip.py                # ViT-L-14-336 at 518 px, random weights, batch 1, CPU
python benchmarks/af_clip.py --repeats 9
"""

from collections.abc import Iterator
from typing import Any

from measuring import Run, Taken, bare, image_for, inference, main, median_ratio, training

SHOTS = 4


def build(backbone: str, **arguments: Any) -> Any:
    from anomalib_zsad import AFClip

    return AFClip(backbone, pretrained=None, **arguments)


def few_shot(backbone: str) -> Run:
    model = build(backbone, k_shot=SHOTS)
    model.model.remember([image_for(backbone) for _ in range(SHOTS)])
    return inference(model)


CASES = {
    "bare": bare,
    "zero-shot": lambda backbone: inference(build(backbone)),
    "bfloat16": lambda backbone: inference(build(backbone, precision="bf16")),
    "few-shot": few_shot,
    "training": lambda backbone: training(build(backbone)),
}


def conclude(taken: Taken, peaks: dict[str, int]) -> Iterator[str]:
    for name in {"bfloat16", "few-shot"} & taken[0].keys() if "zero-shot" in taken[0] else ():
        yield f"{name} / zero-shot: {median_ratio(taken, name, 'zero-shot'):.2f}"
    if peaks:
        yield f"peak of {SHOTS}-shot above zero-shot: {peaks['few-shot'] - peaks['zero-shot']} MiB"


if __name__ == "__main__":
    main(__doc__, __file__, CASES, conclude)
