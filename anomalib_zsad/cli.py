"""The console script `anomalib-zsad`: argument parsing only. Whatever loads torch is imported by the command itself."""

import argparse
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from anomalib_zsad._version import __version__
from anomalib_zsad.knowledge.arguments import add_explain, add_knowledge

if TYPE_CHECKING:
    import torch


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after the program's name; those of the process by default.

    Returns:
        The exit status: 2 for what the user can put right, told in one line.
    """
    options = _parser().parse_args(arguments)
    with warnings.catch_warnings():
        # What timm and anomalib say of their own imports is nothing that the user can put right.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"(timm|anomalib)\.")
        try:
            return options.run(options)
        except (OSError, ValueError) as error:
            print("anomalib-zsad:", *str(error).splitlines(), file=sys.stderr)
            return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="anomalib-zsad", description="Zero-shot anomaly detection with CLIP.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_convert, _add_few_shot, _add_benchmark, _add_weights, _add_demo, add_knowledge, add_explain):
        add(commands)
    return parser


def _add_convert(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Turn weights that authors released into an adapter file."
    methods = commands.add_parser("convert", help=text, description=text).add_subparsers(
        required=True, metavar="METHOD"
    )
    text = "AF-CLIP: the prompt and the adaptor of one auxiliary dataset. Pickles are read without running them."
    method = methods.add_parser("af-clip", help=text, description=text)
    method.add_argument("--prompt", type=Path, required=True, help="the authors' *_prompt.pt")
    method.add_argument("--adaptor", type=Path, required=True, help="the authors' *_adaptor.pt")
    method.add_argument("--out", type=Path, required=True, help="the adapter file to write, *.safetensors")
    method.set_defaults(run=_convert_af_clip)
    text = "ACD-CLIP: one published checkpoint. Pickles are read without running them."
    method = methods.add_parser("acd-clip", help=text, description=text)
    method.add_argument("--checkpoint", type=Path, required=True, help="the authors' file, one an epoch")
    method.add_argument("--out", type=Path, required=True, help="the adapter file to write, *.safetensors")
    method.set_defaults(run=_convert_acd_clip)


def _add_few_shot(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Test with several numbers of references, each over several draws: mean and deviation of every metric."
    command = commands.add_parser("few-shot", help=text, description=text)
    command.add_argument("--shots", type=int, nargs="+", default=[0, 1, 2, 4], help="numbers of references (0 1 2 4)")
    command.add_argument("--draws", type=int, default=5, help="draws of references for each (%(default)s)")
    command.add_argument("--out", type=Path, default=Path("few_shot"), help="folder for the results (%(default)s)")
    command.add_argument("arguments", nargs="+", metavar="-- ARGUMENTS", help="those of `anomalib test`")
    command.set_defaults(run=_few_shot)


def _add_benchmark(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Run a grid of models, datasets, references and seeds; a killed run goes on where it was."
    command = commands.add_parser("benchmark", help=text, description=text)
    command.add_argument("-c", "--config", type=Path, required=True, help="a YAML file, as in configs/benchmark")
    command.add_argument("--out", type=Path, help="folder for the results (results/benchmark/<name of the config>)")
    command.add_argument("--accelerator", default="auto", help="of the trainer (%(default)s)")
    command.add_argument("--jobs", type=int, help="cells at a time (the config's launcher; 1 on this machine)")
    papers = ("acdclip", "afclip", "kanoclip", "wmoeclip")
    command.add_argument("--compare", choices=papers, help="put the figures of this paper beside ours")
    only = command.add_mutually_exclusive_group()
    only.add_argument("--list-cells", action="store_true", help="print the names of all cells and run none")
    text = "run this cell alone, here, no tables (exit status 75: another process runs it)"
    only.add_argument("--cell", metavar="NAME", help=text)
    command.add_argument("--end-with-parent", action="store_true", help=argparse.SUPPRESS)
    command.set_defaults(run=_benchmark)


def _add_weights(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Find and check the weights of a CLIP backbone."
    actions = commands.add_parser("weights", help=text, description=text).add_subparsers(
        required=True, metavar="ACTION"
    )
    for name, run, text in (
        ("where", _weights_where, "Say which file is used, or which to fetch and where to put it (exit status 1)."),
        ("verify", _weights_verify, "Read the file and check its SHA-256 against what was published or recorded."),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("backbone", metavar="BACKBONE", help="a model name of open_clip, such as ViT-L-14-336")
        action.add_argument("tag", metavar="TAG", nargs="?", default="openai", help="a tag or a file (%(default)s)")
        action.set_defaults(run=run)


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Train, test and predict on drawn pictures with a small CLIP that comes along: a few minutes, no network."
    command = commands.add_parser("demo", help=text, description=text)
    command.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results (%(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of the pictures and of the training (%(default)s)")
    command.set_defaults(run=_demo)


def _convert_af_clip(options: argparse.Namespace) -> int:
    from anomalib_zsad.clip.digest import hash_file
    from anomalib_zsad.models.af_clip.released import read_released
    from anomalib_zsad.models.parts.adapter_file import save_adapter
    from anomalib_zsad.models.parts.record import new_record, to_metadata

    tensors = read_released(options.prompt, options.adaptor)
    origin = {
        "prompt_sha256": hash_file(options.prompt),
        "adaptor_sha256": hash_file(options.adaptor),
        "origin": f"released by the authors: {options.prompt.name}, {options.adaptor.name}",
    }
    save_adapter(options.out, tensors, {**to_metadata(new_record("AFClip")), **origin})
    return _say_written(options.out, tensors)


def _convert_acd_clip(options: argparse.Namespace) -> int:
    from anomalib_zsad.clip.digest import hash_file
    from anomalib_zsad.models.acd_clip.released import groups_in, read_released
    from anomalib_zsad.models.parts.adapter_file import save_adapter
    from anomalib_zsad.models.parts.record import new_record, to_metadata

    tensors = read_released(options.checkpoint)
    origin = {
        "checkpoint_sha256": hash_file(options.checkpoint),
        "origin": f"released by the authors: {options.checkpoint.name}",
    }
    record = new_record("ACDClip", settings={"n_groups": groups_in(tensors)})
    save_adapter(options.out, tensors, {**to_metadata(record), **origin})
    return _say_written(options.out, tensors)


def _say_written(path: Path, tensors: "dict[str, torch.Tensor]") -> int:
    from anomalib_zsad.clip.digest import hash_file

    count = sum(tensor.numel() for tensor in tensors.values())
    print(f"{path}: {len(tensors)} tensors, {count} parameters, {path.stat().st_size} bytes")
    print(f"SHA-256 {hash_file(path)}")
    return 0


def _few_shot(options: argparse.Namespace) -> int:
    from anomalib_zsad.benchmark.draws import repeat_draws

    with _said_on_stderr("anomalib_zsad.evaluation"):
        repeat_draws(options.arguments, options.shots, options.draws, options.out)
    print(f"every run and category: {options.out / 'few_shot.csv'}, the table: {options.out / 'few_shot.md'}")
    return 0


def _benchmark(options: argparse.Namespace) -> int:
    from anomalib_zsad.benchmark.command import end_with_parent

    if options.end_with_parent:
        end_with_parent()
    with _ended_by_sigterm():
        return _benchmark_or_cell(options)


def _benchmark_or_cell(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from lightning.pytorch.accelerators import AcceleratorRegistry

    from anomalib_zsad.arguments import check_choice
    from anomalib_zsad.benchmark.beside_paper import write_comparison
    from anomalib_zsad.benchmark.reading import read_benchmark
    from anomalib_zsad.benchmark.run import run_benchmark, run_named_cell

    check_choice(
        "--accelerator", options.accelerator, ("auto", "gpu", *sorted(AcceleratorRegistry.available_accelerators()))
    )
    folder = options.out or Path("results", "benchmark", options.config.stem)
    benchmark = read_benchmark(options.config)
    if options.list_cells:
        print("\n".join(cell.name for cell in benchmark.cells()))
        return 0
    if options.cell is not None:
        with _said_on_stderr("anomalib_zsad.benchmark"):
            return run_named_cell(benchmark, folder, options.cell, options.accelerator)
    if options.jobs is not None:
        benchmark.launcher = replace(benchmark.launcher, jobs=options.jobs)
    with _said_on_stderr("anomalib_zsad.benchmark"):
        rows, failures = run_benchmark(benchmark, folder, accelerator=options.accelerator)
    print((folder / "results.md").read_text(encoding="utf-8"))
    if options.compare:
        write_comparison(folder, benchmark, rows, options.compare)
        print((folder / f"compared_to_{options.compare}.md").read_text(encoding="utf-8"))
    print(f"every category, seed and metric: {folder / 'results.csv'}, the table: {folder / 'results.md'}")
    return 1 if failures else 0


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end what runs as an error would, with the status that a shell gives to it."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _said_on_stderr(name: str) -> Iterator[None]:
    """Show what a logger tells of progress; anomalib and Lightning show only their own."""
    handler, logger = logging.StreamHandler(), logging.getLogger(name)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def _weights_where(options: argparse.Namespace) -> int:
    from anomalib_zsad.clip.weights import how_to_fetch, locate

    located = locate(options.backbone, options.tag)
    if located:
        print(f"{located.path} (from {located.source})")
        return 0
    print(
        f"not on this machine, downloaded on first use; without a network {how_to_fetch(options.backbone, options.tag)}"
    )
    return 1


def _weights_verify(options: argparse.Namespace) -> int:
    from anomalib_zsad.clip.weights import how_to_fetch, locate, verify

    located = locate(options.backbone, options.tag)
    if not located:
        msg = f"nothing to verify: the weights are not on this machine; {how_to_fetch(options.backbone, options.tag)}"
        raise FileNotFoundError(msg)
    digest, checked = verify(located)
    print(f"{digest}  {located.path}")
    print("matches what was published or recorded" if checked else "no published or recorded SHA-256 to check against")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from anomalib_zsad.synthetic.demo import run_demo

    run_demo(options.out, options.seed)
    return 0
