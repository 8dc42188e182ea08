"""Speed and memory of KAnoCLIP beside the bare forward of open_clip's vision tower, as ratios in one run.

    python benchmarks/kano_clip.py                # ViT-L-14-336 at 518 px, random weights, batch 1, CPU
    python benchmarks/kano_clip.py --times bare inference "on features"    # of these cases, without the memory

"on features" is a training step whose frozen features are ready, as they are where epochs repeat them.
"""

from typing import Any

from measuring import bare, inference, main, training, training_on_features


def build(backbone: str, **arguments: Any) -> Any:
    from anomalib_zsad import KAnoClip

    return KAnoClip(backbone, pretrained=None, **arguments)


CASES = {
    "bare": bare,
    "inference": lambda backbone: inference(build(backbone)),
    "without V-V": lambda backbone: inference(build(backbone, use_vv=False)),
    "bfloat16": lambda backbone: inference(build(backbone, precision="bf16")),
    "training": lambda backbone: training(build(backbone)),
    "on features": lambda backbone: training_on_features(build(backbone)),
}

if __name__ == "__main__":
    main(__doc__, __file__, CASES, limits={"inference": 1.45})
