"""torch.compile: AF-CLIP compiled beside eager, inference and training step, as ratios in one run.

python benchmarks/compiled.py                      # ViT-L-14-336 at 518 px, random weights, batch 1, CPU
python benchmarks/compiled.py --times eager frozen --repeats 2

"frozen" has Inductor treat weights as constants (`torch._inductor.config.freezing`), which it packs for the CPU.
"""

import time
from collections.abc import Iterator
from typing import Any

from measuring import Run, Taken, bare, inference, main, median_ratio, training


def build(backbone: str, **arguments: Any) -> Any:
    from anomalib_zsad import AFClip

    return AFClip(backbone, pretrained=None, **arguments)


def compiled(run: Run, name: str, frozen: bool = False) -> Run:
    """Call it once, and print how long the compiler takes."""
    import torch._inductor.config

    start = time.perf_counter()
    with torch._inductor.config.patch(freezing=frozen):
        run()
    print(f"{name}: the first call took {time.perf_counter() - start:.0f} s", flush=True)
    return run


CASES = {
    "bare": bare,
    "eager": lambda backbone: inference(build(backbone)),
    "compiled": lambda backbone: compiled(inference(build(backbone, compile=True)), "compiled"),
    "frozen": lambda backbone: compiled(inference(build(backbone, compile=True)), "frozen", frozen=True),
    "training": lambda backbone: training(build(backbone)),
    "compiled-training": lambda backbone: compiled(training(build(backbone, compile=True)), "compiled-training"),
}


def conclude(taken: Taken, _: dict[str, int]) -> Iterator[str]:
    for name, other in (("compiled", "eager"), ("frozen", "eager"), ("compiled-training", "training")):
        if {name, other} <= taken[0].keys():
            clock, processor = (median_ratio(taken, name, other, which) for which in (0, 1))
            yield f"{name} / {other}: {clock:.2f} on the clock, {processor:.2f} of the processor's time"


if __name__ == "__main__":
    main(__doc__, __file__, CASES, conclude)
