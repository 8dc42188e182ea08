"""The commands `anomalib-zsad knowledge ...` and `anomalib-zsad explain`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from anomalib_zsad.commands.typed import TOPICS, command

_INTERRUPTED = 130

TOPICS["knowledge"] = "Knowledge bases of KAnoCLIP: what anomalous images of a class look like, in words."


@command(
    "knowledge build",
    groups={
        "what is asked about": ("classes", "data", "root", "dataset", "n", "m"),
        "which models are asked": ("llm", "vqa", "seed", "temperature"),
        "how they are reached": ("host", "timeout", "stream", "retries"),
    },
)
def build(
    *,
    out: Path,
    classes: Sequence[str] | None = None,
    data: str | None = None,
    root: Path | None = None,
    dataset: str | None = None,
    n: int = 5,
    m: int = 1,
    llm: str = "llama3.1",
    vqa: str = "llava-llama3",
    seed: int = 0,
    temperature: float = 0.0,
    host: str | None = None,
    timeout: float = 120.0,
    stream: bool = False,
    retries: int = 3,
) -> int:
    """Ask models of Ollama about classes and about anomalous images. An interrupted build goes on where it was.

    Args:
        out: the file to write, *.json; answers go to *.jsonl
        classes: as the dataset calls them (default: all of --data)
        data: folder with a folder of anomalous images a class, or a datamodule: MVTecAD
        root: where the datamodule's dataset is
        dataset: the dataset's name, for class names such as 01 (default: that of --data)
        n: descriptions of a class
        m: descriptions of an image
        llm: model that describes classes
        vqa: model that looks at the images
        seed: of the models
        temperature: of the models
        host: address of Ollama (default: $OLLAMA_HOST, or this machine)
        timeout: seconds to wait for an answer
        stream: take answers piece by piece; --timeout is for a piece
        retries: after a failure or a bad answer
    """
    try:
        from anomalib_zsad.knowledge.asking import Settings
        from anomalib_zsad.knowledge.build import build_knowledge
        from anomalib_zsad.knowledge.images import LabelledData, find_images
        from anomalib_zsad.knowledge.ollama_model import OllamaModel

        settings = Settings(n, m, seed, temperature, retries)
        images = find_images(data, root, classes) if data else LabelledData("", {})
        asked = classes or list(images.images)
        first, second = (OllamaModel(name, host, timeout, stream=stream) for name in (llm, vqa))
        content = build_knowledge(asked, out, first, second, images.images, dataset or images.name, settings)
    except KeyboardInterrupt:  # be it while torch is imported, or images are looked for
        print("anomalib-zsad: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return _INTERRUPTED
    answers = [image for entry in content.classes.values() for image in entry.vqa.values()]
    templates = sum(bool(text.by) for entry in content.classes.values() for text in entry.llm)
    described = sum(image.status == "ok" for image in answers)
    print(f"{out}: {len(asked)} classes, {templates} templates, {described} of {len(answers)} images described")
    return 0


@command("knowledge show", names={"class_name": "--class"})
def show(file: str = "builtin", *, class_name: str | None = None, dataset: str | None = None) -> int:
    """Show what a knowledge base knows, or all about one class.

    Args:
        file: a file
        class_name: show the descriptions of this class
        dataset: where the class is from, for names such as 01
    """
    from rich.console import Console

    from anomalib_zsad.knowledge.base import load_knowledge
    from anomalib_zsad.knowledge.inspection import details, overview

    base = load_knowledge(file)
    Console().print(details(base, class_name, dataset) if class_name else overview(base))
    return 0


@command("knowledge check")
def check(file: str = "builtin") -> int:
    """Check form and texts of a knowledge base; exit status 1 with a line for each problem.

    Args:
        file: a file
    """
    from anomalib_zsad.knowledge.base import load_knowledge
    from anomalib_zsad.knowledge.inspection import problems_of

    base = load_knowledge(file)
    problems = list(problems_of(base.content))
    for problem in problems:
        print(problem)
    print(f"{file}: {len(base.classes)} classes, {len(problems) or 'no'} problems, SHA-256 {base.sha256}")
    return 1 if problems else 0


@command("knowledge merge", names={"files": "FILE"})
def merge(files: Sequence[str], *, out: Path) -> int:
    """Join knowledge bases: all classes, all descriptions, each with its origin.

    Args:
        files: two or more; builtin is one of them
        out: the file to write, *.json
    """
    from anomalib_zsad.knowledge.base import check_replaceable, load_knowledge, save_knowledge
    from anomalib_zsad.knowledge.merging import merge_knowledge

    merged = merge_knowledge([load_knowledge(file).content for file in files])
    check_replaceable(out, merged.classes)
    save_knowledge(merged, out)
    print(f"{out}: {len(merged.classes)} classes")
    return 0


@command(
    "explain",
    groups={
        "the model": ("ckpt_path", "pretrained"),
        "the descriptions": ("class_name", "dataset", "knowledge", "all_classes"),
        "what is shown": ("patches", "count", "out"),
    },
)
def explain(
    image: Path,
    *,
    ckpt_path: Path,
    pretrained: str | None = None,
    class_name: str | None = None,
    dataset: str | None = None,
    knowledge: str | None = None,
    all_classes: bool = False,
    patches: int = 5,
    count: int = 5,
    out: Path = Path("explain"),
) -> int:
    """Show which descriptions lie closest to KAnoCLIP's abnormal prompts and to an image's most anomalous patches.

    Args:
        image: an image
        ckpt_path: a checkpoint of KAnoClip
        pretrained: weights of the backbone; a file that the checkpoint names must be named here
        class_name: what is on the image, such as metal_nut (default: that of the training)
        dataset: where the class is from, for names such as 01
        knowledge: where the descriptions are from (default: the base of the training)
        all_classes: compare the descriptions of all classes
        patches: how many are the most anomalous
        count: descriptions to show
        out: folder for the results
    """
    from rich.console import Console

    from anomalib_zsad.knowledge.base import load_knowledge
    from anomalib_zsad.models.kano_clip import KAnoClip, explanation
    from anomalib_zsad.models.kano_clip.explanation_report import save_explanation, stem_for, tables

    more = {"pretrained": pretrained} if pretrained else {}
    model = KAnoClip.load_from_checkpoint(ckpt_path, map_location="cpu", **more).eval()
    base = load_knowledge(knowledge or model.hparams["knowledge"])
    if not knowledge and model.knowledge_sha256 not in {None, base.sha256}:
        print("note: the knowledge base has changed since the training", file=sys.stderr)
    name = class_name or model.hparams["class_name"]
    explained = explanation.explain(model, image, base, name, dataset, all_classes=all_classes, n_patches=patches)
    Console().print(tables(explained, count))
    print("written:", *save_explanation(explained, out, stem_for(image), count))
    return 0
