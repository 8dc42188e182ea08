"""The arguments that methods share, documented once; signatures name them, as jsonargparse and anomalib need it."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_MEANINGS = {
    "backbone": "An open_clip model name; not used where `pretrained` is a file of a plain CLIP, which determines the "
    "architecture.",
    "pretrained": "A tag of open_clip, a file with the weights of a CLIP, or None for untrained weights (tests only).",
    "image_size": "Height and width in pixels that images are resized to; multiples of the patch size. None: 518 or "
    "the multiple nearest to it, over the small CLIP of this package the 168 that it was trained at; with `tile` "
    "images keep their size.",
    "class_name": "The class of all images. None: the sample's own, else the datamodule's, else \"object\".",
    "class_names": "Words for classes in the prompts that take precedence, by category: a mapping or a YAML file.",
    "betas": "Adam's betas.",
    "epochs": "Epochs of training, unless the trainer has `max_epochs`.",
    "tile": "Height and width in pixels of windows that images are scored in, beside the whole picture; multiples of "
    "the patch size. Training sees whole images of this size. None: images are scored as a whole.",
    "tile_overlap": "The share of a tile that the next one covers, too.",
    "tile_batch": "The most tiles that are scored at a time: fewer take less memory.",
    "precision": '"bf16" runs the frozen vision tower in bfloat16; what learns stays in float32.',
    "compile": "Whether `torch.compile` compiles the model, with the same scores: True, or one of its modes. Of this "
    "machine: no checkpoint brings it to another. The first batch takes minutes.",
    "runtime": '"openvino" or "onnx" (onnxruntime) computes the vision tower on a CPU in float32, faster than "torch"; '
    "a setting of this machine, which checkpoints do not bring along.",
    "cache_features": "A folder that caches the backbone's features in training, which are then computed in the first "
    "epoch only (see `FeatureCache`); 11 MB an image at the defaults. None: computed in every epoch.",
    "cache_dtype": '"float16" or "bfloat16": the type of cached features.',
    "image_threshold": "The raw image score above which an image is anomalous. None: as fitted to validation data.",
    "pixel_threshold": "The raw pixel score above which a pixel is anomalous. None: as fitted to validation data.",
    "weights": "An adapter file, written by `anomalib-zsad convert` or `save_weights`; a folder of "
    '`save_pretrained`; or "hf://user/name" or "hf://user/name@revision", a repository on the Hugging Face hub. None: '
    "to be trained.",
    "seed": "Seed of initialisation and training.",
    "choices": "Settings that the paper leaves open.",
    "post_processor": "A MonotonePostProcessor with other options, anomalib's post-processor, or False for none.",
    "components": "anomalib's pre_processor, evaluator and visualizer.",
}


def documented(constructor: F) -> F:
    """Document the arguments of a constructor that methods share; the docstring of the class takes precedence."""
    names = [name for name in inspect.signature(constructor).parameters if name in _MEANINGS]
    lines = [f"    {'**' if name == 'components' else ''}{name}: {_MEANINGS[name]}" for name in names]
    constructor.__doc__ = "\n".join(["Build the model of its arguments.", "", "Args:", *lines, ""])
    return constructor
