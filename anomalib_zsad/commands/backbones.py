"""The commands `anomalib-zsad weights ...`."""

from anomalib_zsad.commands.typed import TOPICS, command

TOPICS["weights"] = "Find and check the weights of a CLIP backbone."


@command("weights where")
def where(backbone: str, tag: str = "openai") -> int:
    """Say which file is used, or which to fetch and where to put it (exit status 1).

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
