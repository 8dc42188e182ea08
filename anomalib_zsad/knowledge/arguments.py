"""The commands `anomalib-zsad knowledge ...`: argument parsing only."""

import argparse
import sys
from pathlib import Path

_INTERRUPTED = 130


def add_knowledge(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands about knowledge bases."""
    text = "Knowledge bases of KAnoCLIP: what anomalous images of a class look like, in words."
    actions = commands.add_parser("knowledge", help=text, description=text).add_subparsers(
        required=True, metavar="ACTION"
    )
    _add_build(actions)
    text = "Show what a knowledge base knows, or all about one class."
    action = actions.add_parser("show", help=text, description=text)
    action.add_argument("file", metavar="FILE", nargs="?", default="builtin", help="a file (%(default)s)")
    action.add_argument("--class", dest="class_name", help="show the descriptions of this class")
    action.add_argument("--dataset", help="where the class is from, for names such as 01")
    action.set_defaults(run=_show)
    text = "Check form and texts of a knowledge base; exit status 1 with a line for each problem."
    action = actions.add_parser("check", help=text, description=text)
    action.add_argument("file", metavar="FILE", nargs="?", default="builtin", help="a file (%(default)s)")
    action.set_defaults(run=_check)
    text = "Join knowledge bases: all classes, all descriptions, each with its origin."
    action = actions.add_parser("merge", help=text, description=text)
    action.add_argument("files", metavar="FILE", nargs="+", help="two or more; builtin is one of them")
    action.add_argument("--out", type=Path, required=True, help="the file to write, *.json")
    action.set_defaults(run=_merge)


def _add_build(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Ask models of Ollama about classes and about anomalous images. An interrupted build goes on where it was."
    action = actions.add_parser("build", help=text, description=text)
    action.add_argument("--classes", nargs="+", metavar="CLASS", help="as the dataset calls them (all of --data)")
    action.add_argument("--data", help="folder with a folder of anomalous images a class, or a datamodule: MVTecAD")
    action.add_argument("--root", type=Path, help="where the datamodule's dataset is")
    action.add_argument("--dataset", help="the dataset's name, for class names such as 01 (that of --data)")
    action.add_argument("--llm", default="llama3.1", help="model that describes classes (%(default)s)")
    action.add_argument("--vqa", default="llava-llama3", help="model that looks at the images (%(default)s)")
    action.add_argument("--out", type=Path, required=True, help="the file to write, *.json; answers go to *.jsonl")
    action.add_argument("--host", help="address of Ollama ($OLLAMA_HOST, or this machine)")
    action.add_argument("--timeout", type=float, default=120.0, help="seconds to wait for an answer (%(default)g)")
    action.add_argument("--stream", action="store_true", help="take answers piece by piece; --timeout is for a piece")
    action.add_argument("-n", type=int, default=5, help="descriptions of a class (%(default)s)")
    action.add_argument("-m", type=int, default=1, help="descriptions of an image (%(default)s)")
    action.add_argument("--seed", type=int, default=0, help="of the models (%(default)s)")
    action.add_argument("--temperature", type=float, default=0.0, help="of the models (%(default)g)")
    action.add_argument("--retries", type=int, default=3, help="after a failure or a bad answer (%(default)s)")
    action.set_defaults(run=_build)


def add_explain(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command that looks at an image with a trained KAnoCLIP."""
    text = "Say which descriptions lie closest to KAnoCLIP's abnormal prompts and to an image's most anomalous patches."
    command = commands.add_parser("explain", help=text, description=text)
    command.add_argument("image", type=Path, metavar="IMAGE", help="an image")
    command.add_argument("--ckpt_path", type=Path, required=True, help="a checkpoint of KAnoClip")
    command.add_argument(
        "--pretrained", help="weights of the backbone; a file that the checkpoint names must be named here"
    )
    command.add_argument("--class_name", help="what is on the image, such as metal_nut (that of the training)")
    command.add_argument("--dataset", help="where the class is from, for names such as 01")
    command.add_argument("--knowledge", help="where the descriptions are from (the base of the training)")
    command.add_argument("--all_classes", action="store_true", help="compare the descriptions of all classes")
    command.add_argument("--patches", type=int, default=5, help="how many are the most anomalous (%(default)s)")
    command.add_argument("--count", type=int, default=5, help="descriptions to show (%(default)s)")
    command.add_argument("--out", type=Path, default=Path("explain"), help="folder for the results (%(default)s)")
    command.set_defaults(run=_explain)


def _build(options: argparse.Namespace) -> int:
    try:
        return _ask_models(options)
    except KeyboardInterrupt:  # be it while torch is imported, or images are looked for
        print("anomalib-zsad: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return _INTERRUPTED


def _ask_models(options: argparse.Namespace) -> int:
    from anomalib_zsad.knowledge.asking import Settings
    from anomalib_zsad.knowledge.build import build_knowledge
    from anomalib_zsad.knowledge.images import LabelledData, find_images
    from anomalib_zsad.knowledge.ollama_model import OllamaModel

    settings = Settings(options.n, options.m, options.seed, options.temperature, options.retries)
    data = find_images(options.data, options.root, options.classes) if options.data else LabelledData("", {})
    classes = options.classes or list(data.images)
    llm, vqa = (
        OllamaModel(name, options.host, options.timeout, stream=options.stream) for name in (options.llm, options.vqa)
    )
    content = build_knowledge(classes, options.out, llm, vqa, data.images, options.dataset or data.name, settings)
    images = [image for entry in content.classes.values() for image in entry.vqa.values()]
    templates = sum(bool(text.by) for entry in content.classes.values() for text in entry.llm)
    described = sum(image.status == "ok" for image in images)
    print(
        f"{options.out}: {len(classes)} classes, {templates} templates, {described} of {len(images)} images described"
    )
    return 0


def _show(options: argparse.Namespace) -> int:
    from rich.console import Console

    from anomalib_zsad.knowledge.base import load_knowledge
    from anomalib_zsad.knowledge.inspection import details, overview

    base = load_knowledge(options.file)
    shown = details(base, options.class_name, options.dataset) if options.class_name else overview(base)
    Console().print(shown)
    return 0


def _check(options: argparse.Namespace) -> int:
    from anomalib_zsad.knowledge.base import load_knowledge
    from anomalib_zsad.knowledge.inspection import problems_of

    base = load_knowledge(options.file)
    problems = list(problems_of(base.content))
    for problem in problems:
        print(problem)
    print(f"{options.file}: {len(base.classes)} classes, {len(problems) or 'no'} problems, SHA-256 {base.sha256}")
    return 1 if problems else 0


def _merge(options: argparse.Namespace) -> int:
    from anomalib_zsad.knowledge.base import check_replaceable, load_knowledge, save_knowledge
    from anomalib_zsad.knowledge.merging import merge_knowledge

    merged = merge_knowledge([load_knowledge(file).content for file in options.files])
    check_replaceable(options.out, merged.classes)
    save_knowledge(merged, options.out)
    print(f"{options.out}: {len(merged.classes)} classes")
    return 0


def _explain(options: argparse.Namespace) -> int:
    from rich.console import Console

    from anomalib_zsad.knowledge.base import load_knowledge
    from anomalib_zsad.models.kano_clip import KAnoClip
    from anomalib_zsad.models.kano_clip.explanation import explain
    from anomalib_zsad.models.kano_clip.explanation_report import save_explanation, stem_for, tables

    more = {"pretrained": options.pretrained} if options.pretrained else {}
    model = KAnoClip.load_from_checkpoint(options.ckpt_path, map_location="cpu", **more).eval()
    base = load_knowledge(options.knowledge or model.hparams["knowledge"])
    if not options.knowledge and model.knowledge_sha256 not in {None, base.sha256}:
        print("note: the knowledge base has changed since the training", file=sys.stderr)
    name = options.class_name or model.hparams["class_name"]
    found = explain(
        model, options.image, base, name, options.dataset, all_classes=options.all_classes, n_patches=options.patches
    )
    Console().print(tables(found, options.count))
    print("written:", *save_explanation(found, options.out, stem_for(options.image), options.count))
    return 0
