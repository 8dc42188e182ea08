"""The commands `anomalib-zsad weights ...`."""

from collections.abc import Sequence
from pathlib import Path

from anomalib_zsad.commands.typed import TOPICS, command

_WIDE = 1000
"""Characters of a line where there is no terminal: no line is broken."""

TOPICS["weights"] = "List, fetch, find and check weights: of CLIP backbones and of adapters."


@command("weights list")
def list_weights() -> int:
    """List CLIPs, published adapters, and the adapters in ANOMALIB_ZSAD_HOME and the hub's cache.

    The exit status is 1 where something is damaged.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table

    from anomalib_zsad.models.inventory import inventory
    from anomalib_zsad.printing import shown

    columns = ("name", "for", "state", Column("size", justify="right", no_wrap=True), Column("where", overflow="fold"))
    table, entries = Table(*columns, box=box.SIMPLE), inventory()
    for held in entries:
        state = f"{held.state} ({held.note})" if held.note else held.state
        size = f"{held.size / 1e6:.1f} MB" if held.path else "-"
        table.add_row(*map(shown, (held.name, held.use, state, size, held.path or "-")))
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    console.print(table)
    return int(any(held.state in {"partial", "wrong content"} for held in entries))


@command("weights get", names={"names": "NAME"})
def get(names: Sequence[str], *, to: Path | None = None) -> int:
    """Fetch weights beforehand; with --to, into a folder for a machine without a network.

    Args:
        names: ViT-L-14-336 (a backbone, with :TAG for another tag than openai), released/visa (a published adapter) or
            hf://user/name (a repository on the Hugging Face hub, with @REVISION for another one than its main branch)
        to: a folder to carry to a machine where ANOMALIB_ZSAD_HOME names it
    """
    from anomalib_zsad.models.inventory import getter

    getters = [(name, getter(name)) for name in names]  # a wrong name comes before the first download
    for name, fetch in getters:
        for path in fetch(to):
            files = [each for each in path.iterdir() if each.is_file()] if path.is_dir() else [path]
            print(f"{name}: {path} ({sum(each.stat().st_size for each in files) / 1e6:.1f} MB)")
    if to is not None:
        print(
            f"carry {to} to the other machine, and set ANOMALIB_ZSAD_HOME to it there: the same names are found in it"
        )
    return 0


@command("weights where")
def where(backbone: str, tag: str = "openai") -> int:
    """Show which file is used, or which to fetch and where to put it (exit status 1).

    Args:
        backbone: a model name of open_clip, such as ViT-L-14-336
        tag: a tag or a file
    """
    from anomalib_zsad.clip.weights import how_to_fetch, locate

    located = locate(backbone, tag)
    if located:
        print(f"{located.path} (from {located.source})")
        return 0
    print(f"not on this machine, downloaded on first use; without a network {how_to_fetch(backbone, tag)}")
    return 1


@command("weights verify")
def verify(backbone: str, tag: str = "openai") -> int:
    """Read the file and check its SHA-256 against what was published or recorded.

    Args:
        backbone: a model name of open_clip, such as ViT-L-14-336
        tag: a tag or a file
    """
    from anomalib_zsad.clip import weights

    located = weights.locate(backbone, tag)
    if not located:
        ways = weights.how_to_fetch(backbone, tag)
        msg = f"nothing to verify: the weights are not on this machine; {ways}"
        raise FileNotFoundError(msg)
    digest, checked = weights.verify(located)
    print(f"{digest}  {located.path}")
    print("matches what was published or recorded" if checked else "no published or recorded SHA-256 to check against")
    return 0
