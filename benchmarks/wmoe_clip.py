"""Speed and memory of WMoE-CLIP beside the bare forward of open_clip's vision tower, as ratios in one run.

    python benchmarks/wmoe_clip.py                # ViT-L-14-336 at 518 px, random weights, batch 1, CPU
    python benchmarks/wmoe_clip.py --repeats 9

"on features" is a training step whose frozen features are ready, as they are where epochs repeat them.
"""

from typing import Any

from measuring import bare, inference, main, training, training_on_features


def build(backbone: str, **arguments: Any) -> Any:
    from anomalib_zsad import WMoEClip

    return WMoEClip(backbone, pretrained=None, **arguments)


CASES = {
    "bare": bare,
    "inference": lambda backbone: inference(build(backbone)),
    "bfloat16": lambda backbone: inference(build(backbone, precision="bf16")),
    "training": lambda backbone: training(build(backbone)),
    "on features": lambda backbone: training_on_features(build(backbone)),
}

if __name__ == "__main__":
    main(__doc__, __file__, CASES, limits={"inference": 1.25})
