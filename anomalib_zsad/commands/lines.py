"""The commands for images that come one by one: `watch` and `serve`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anomalib_zsad.commands.experiments import logged_to_stderr
from anomalib_zsad.commands.thresholds import built_model
from anomalib_zsad.commands.typed import command

if TYPE_CHECKING:
    from anomalib_zsad.line.arrivals import Source
    from anomalib_zsad.line.scorer import Scorer


_SUFFIXES = (".onnx", ".xml", ".pt", ".ckpt", ".safetensors")


@command(
    "watch",
    names={"arguments": "-- ARGUMENTS"},
    groups={
        "where images come from (one of them)": ("folder", "video", "camera"),
        "when a file is whole": ("settle", "patience", "listing"),
    },
)
def watch(
    arguments: Sequence[str] = (),
    *,
    model: Path,
    out: Path,
    folder: str | None = None,
    video: Path | None = None,
    camera: str | None = None,
    settle: float = 0.5,
    patience: float = 10.0,
    listing: float = 10.0,
    interval: float = 0.0,
    pictures: Literal["none", "anomalous", "all"] = "none",
    device: str = "auto",
) -> int:
    """Score every new image once, in order, until SIGINT or SIGTERM; a run goes on where an earlier one ended.

    Args:
        arguments: with a checkpoint: further ones of `anomalib predict`, such as --model.reference ./good
        model: an exported model (.onnx, .xml, .pt), a checkpoint (.ckpt) or an adapter file (.safetensors)
        out: folder for results.jsonl, results.csv, index.html and pictures
        folder: a folder, or a glob such as in/*/top_*.png
        video: a video file
        camera: number of a camera, or address of a stream: rtsp://10.0.0.7/live
        settle: seconds for which a file has to stay unchanged
        patience: seconds after which a file that cannot be read is an error
        listing: seconds between two listings of the folder: 1 where changes are not reported (network shares)
        interval: least seconds between two frames of a video or camera
        pictures: of which images to draw one
        device: auto, or as the runtime names it: cpu, cuda, GPU
    """
    from anomalib_zsad.line import watching

    with logged_to_stderr("anomalib_zsad"):
        source = _source(folder, video, camera, out, (settle, patience, listing), interval)
        done = watching.watch(_scorer(model, device, arguments), source, out, pictures)
    print(f"{done} images scored; all results: {out / 'results.csv'}, the page: {out / 'index.html'}")
    return 0


@command(
    "serve", names={"arguments": "-- ARGUMENTS"}, groups={"limits": ("max_megabytes", "max_megapixels", "max_waiting")}
)
def serve(
    arguments: Sequence[str] = (),
    *,
    model: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_megabytes: int = 20,
    max_megapixels: int = 40,
    max_waiting: int = 64,
    device: str = "auto",
) -> int:
    """Answer over HTTP: POST an image to /detect, get score, label and p-value, with ?map=true the map; GET /health.

    Args:
        arguments: with a checkpoint: further ones of `anomalib predict`, such as --model.reference ./good
        model: an exported model (.onnx, .xml, .pt), a checkpoint (.ckpt) or an adapter file (.safetensors)
        host: address to listen on; 0.0.0.0 for all of this machine's
        port: to listen on
        max_megabytes: of an image file
        max_megapixels: of an image
        max_waiting: images that wait; further ones are refused with status 503
        device: auto, or as the runtime names it: cpu, cuda, GPU
    """
    if min(max_megabytes, max_megapixels, max_waiting) < 1:
        msg = "expected --max_megabytes, --max_megapixels and --max_waiting of at least 1"
        raise ValueError(msg)
    try:
        import uvicorn

        from anomalib_zsad.line.serving import app_of
    except ImportError as error:
        msg = f"serve needs {error.name}: pip install 'anomalib-zsad[serve]'"
        raise ValueError(msg) from error
    app = app_of(_scorer(model, device, arguments), max_megabytes * 10**6, max_megapixels * 10**6, max_waiting)
    uvicorn.run(app, host=host, port=port)
    return 0


def _source(
    folder: str | None,
    video: Path | None,
    camera: str | None,
    out: Path,
    timing: tuple[float, float, float],
    interval: float,
) -> "Source":
    from anomalib_zsad.line.capture import Camera, Video
    from anomalib_zsad.line.watched_folder import Folder

    if sum(each is not None for each in (folder, video, camera)) != 1:
        msg = "expected one of --folder, --video and --camera"
        raise ValueError(msg)
    if min(*timing, interval) < 0 or not timing[2]:
        msg = "expected seconds of at least 0, and --listing above 0"
        raise ValueError(msg)
    if video is not None:
        return Video(video, interval)
    if camera is not None:
        return Camera(camera, interval)
    source = Folder(str(folder), *timing)
    if out.resolve().is_relative_to(source.root):
        msg = f"--out: expected a folder outside of {source.root}, got {out}: its pictures would be scored, too"
        raise ValueError(msg)
    return source


def _scorer(path: Path, device: str, arguments: Sequence[str]) -> "Scorer":
    from anomalib_zsad.line.scorer import Scorer, digest_of
    from anomalib_zsad.models.commands import method_in

    if path.suffix not in _SUFFIXES:
        msg = f"--model: expected a file with the suffix {', '.join(_SUFFIXES)}, got {path}"
        raise ValueError(msg)
    if path.suffix not in {".ckpt", ".safetensors"}:
        if arguments:
            msg = f"expected no arguments of a model with an exported one, got {' '.join(arguments)}"
            raise ValueError(msg)
        return Scorer.open(path, device)
    words = ["--model", f"anomalib_zsad.{method_in(path)}", *arguments, "--data", str(path)]
    if path.suffix == ".safetensors":
        model = built_model([*words, f"--model.weights={path}"])
    else:
        model = built_model([*words, f"--ckpt_path={path}"])
        model.load_checkpoint(path)
    return Scorer.of_model(model, path.name, digest_of([path], *arguments), device)
