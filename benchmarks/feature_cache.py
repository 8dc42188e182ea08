"""What `cache_features` saves: time of a training step without it, of one that fills it and of one that reads it.

    python benchmarks/feature_cache.py                     # every method, ViT-L-14-336 at 518 px, batch 1, CPU
    python benchmarks/feature_cache.py AFClip --repeats 9 --batch 4 --dtype bfloat16
    python benchmarks/feature_cache.py --read 64 --batch 8      # how fast 64 files are read, in MB/s, without a network

Weights and images are random. All kinds of step are measured in turn, and medians are compared, once of the time on the
clock and once of the processor's, which other processes disturb less. A step is what a training does with a batch:
features, losses, backward pass and optimiser. "own" is what no cache can save: a step on features in memory. Files that
were just written are read from memory, not from the disk. Losses with and without the cache are compared on the same
weights. With --read, files of the size of four layers of ViT-L at 518 px are read from the disk (dropped from memory
before) and from memory, in turn: plainly, by four threads; by the cache up to what a GPU is fed with, the keys of their
images computed and the files checked; and by the cache for training on the CPU, converted to 32 bits, too.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

SIZE = 518  # of --read
LAYERS, TOKENS = 4, (1 + 37 * 37, 1024)
METHODS = ("AFClip", "AnomalyClip", "KAnoClip", "WMoEClip")
KINDS = ("uncached", "fill", "hit", "own")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", nargs="?", choices=METHODS)
    parser.add_argument("--backbone", default="ViT-L-14-336")
    parser.add_argument("--dtype", default="float16", choices=["float16", "bfloat16"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--read", type=int, metavar="IMAGES", help="measure reading alone")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if options.read:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # temporary folders may be in memory
            reading(options, Path(folder))
        return
    for method in [options.method] if options.method else METHODS:
        with tempfile.TemporaryDirectory() as folder:
            measure(method, options, Path(folder))


def measure(method: str, options: Any, folder: Path) -> None:
    import anomalib_zsad
    from anomalib_zsad.clip.named import default_size
    from anomalib_zsad.models.parts.feature_cache import FeatureCache

    model = getattr(anomalib_zsad, method)(options.backbone, pretrained=None)
    optimizer = model.configure_optimizers()
    optimizer = optimizer["optimizer"] if isinstance(optimizer, dict) else optimizer
    cache = FeatureCache.of(model.model.encoder, folder, options.dtype)
    seconds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    differences = []
    for turn in range(options.repeats + 1):  # the first turn warms up
        batch = drawn(options.batch, default_size(options.backbone), seed=turn)
        ready: list[torch.Tensor] = []
        for kind in KINDS:
            model.model.encoder.feature_cache = {"uncached": None, "own": lambda *_, ready=ready: ready}.get(
                kind, cache
            )
            clock, processor = time.perf_counter(), time.process_time()
            optimizer.zero_grad()
            model.loss_terms(batch)["loss"].backward()
            optimizer.step()
            seconds[kind].append((time.perf_counter() - clock, time.process_time() - processor))
            if kind == "hit":
                ready[:] = model.model.encoder(batch.image).tokens
        differences.append(difference(model, batch, cache))
    medians = {kind: [statistics.median(x) for x in zip(*each[1:], strict=True)] for kind, each in seconds.items()}
    report(method, options, folder, medians, differences)


def reading(options: Any, folder: Path) -> None:
    """Compare the speed of the cache with that of reading its files."""
    from anomalib_zsad.models.parts.feature_cache import FeatureCache

    cache = FeatureCache(folder, {"features": "random"}, options.dtype)
    batches = [torch.randn(options.batch, 3, SIZE, SIZE) for _ in range(options.read // options.batch)]
    for images in batches:
        cache(images, lambda images: [torch.randn(len(images), *TOKENS) for _ in range(LAYERS)])
    files = list(folder.rglob("*.safetensors"))
    size = sum(path.stat().st_size for path in files) / 1e6

    def plainly() -> None:
        with ThreadPoolExecutor(4) as readers:
            assert all(readers.map(lambda path: len(path.read_bytes()), files))

    def by_the_cache() -> None:
        for images in batches:
            cache(images, lambda _: [])

    def for_a_device() -> None:
        for images in batches:
            with ThreadPoolExecutor(4) as readers:
                assert all(readers.map(lambda image: cache._read(cache._path_of(image, None)), images))

    kinds = {"plain": plainly, "for a device": for_a_device, "for the CPU": by_the_cache}
    print(
        f"{len(files)} files of {size / len(files):.1f} MB, batch {options.batch}, medians of {options.repeats}, MB/s; "
        "x: of plain, within a repeat"
    )
    for where in ("disk", "memory"):
        dropped = files if where == "disk" else []
        taken = [{name: seconds_of(read, dropped) for name, read in kinds.items()} for _ in range(options.repeats)]
        for name in kinds:
            clock, processor = (size / statistics.median(each[name][which] for each in taken) for which in (0, 1))
            ratio = statistics.median(each["plain"][0] / each[name][0] for each in taken)
            print(
                f"{name:12} from {where:8} {clock:7.0f} by the clock {ratio:5.2f} x {processor:7.0f} by the processor"
            )


def seconds_of(read: Callable[[], None], dropped: list[Path]) -> tuple[float, float]:
    """Measure on the clock, and of the processor, with files dropped from memory before."""
    drop_from_memory(dropped)
    clock, processor = time.perf_counter(), time.process_time()
    read()
    return time.perf_counter() - clock, time.process_time() - processor


def drop_from_memory(files: list[Path]) -> None:
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@torch.no_grad()
def difference(model: Any, batch: Any, cache: Any) -> float:
    """How far the losses of a batch, all in the cache, are from those without it, on the same weights.

    Relative where they are above 1.
    """
    losses = []
    for each in (None, cache):
        model.model.encoder.feature_cache = each
        torch.manual_seed(0)  # WMoE-CLIP samples
        losses.append(model.loss_terms(batch)["loss"].item())
    return abs(losses[0] - losses[1]) / max(1.0, abs(losses[0]))


def drawn(count: int, size: int, seed: int) -> Any:
    """Random images, anomalous in a corner."""
    images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    mask = torch.zeros(count, size, size)
    mask[:, :100, :100] = 1
    return SimpleNamespace(image=images, gt_label=torch.ones(count), gt_mask=mask, category=["object"] * count)


def report(method: str, options: Any, folder: Path, medians: dict[str, list[float]], differences: list[float]) -> None:
    files = list(folder.rglob("*.safetensors"))
    size = sum(path.stat().st_size for path in files) / len(files)
    print(
        f"{method}, {options.backbone}, batch {options.batch}, {options.dtype}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, medians of {options.repeats}"
    )
    for kind, (clock, processor) in medians.items():
        of_clock, of_processor = (whole / part for whole, part in zip(medians["uncached"], medians[kind], strict=True))
        print(f"{kind:10} clock {clock:7.3f} s {of_clock:6.2f} x   processor {processor:7.3f} s {of_processor:6.2f} x")
    print(f"{size / 1e6:.2f} MB an image; x: how many times faster than uncached")
    print(f"losses differ by at most {max(differences):.1e}")


if __name__ == "__main__":
    main()
