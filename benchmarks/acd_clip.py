"""Speed and memory of ACD-CLIP beside the bare forward of open_clip's vision tower, as ratios in one run.

    python benchmarks/acd_clip.py                # ViT-L-14-336 at 518 px, random weights, batch 1, CPU
    python benchmarks/acd_clip.py --repeats 9

The bare forward has plain GELU, as ACD-CLIP does.
"""

from typing import Any

from measuring import bare, inference, main, training


def build(backbone: str, **arguments: Any) -> Any:
    from anomalib_zsad import ACDClip

    return ACDClip(backbone, pretrained=None, **arguments)


CASES = {
    "bare": lambda backbone: bare(backbone, quick_gelu=False),
    "inference": lambda backbone: inference(build(backbone)),
    "training": lambda backbone: training(build(backbone)),
    "with checkpointing": lambda backbone: training(build(backbone, gradient_checkpointing=True)),
}

if __name__ == "__main__":
    main(__doc__, __file__, CASES)
