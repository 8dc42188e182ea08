"""The site that `make docs` builds: Sphinx, MyST (Markdown) and the theme Furo."""

from typing import Annotated, Any, get_args, get_origin

from sphinx_autodoc_typehints import format_annotation

from anomalib_zsad import __version__

project = "anomalib_zsad"
author = "The anomalib_zsad authors"
copyright = "The anomalib_zsad authors, Apache-2.0"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",  # argument tables come from the docstrings and signatures
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",
    "sphinxcontrib.programoutput",  # the command-line reference is the output of --help
]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3  # as GitHub names them
suppress_warnings = ["config.cache"]  # of typehints_formatter
exclude_patterns = ["open_clip.md"]  # included by other pages

default_role = "code"  # `x` in docstrings

autodoc_default_options = {"members": False, "undoc-members": False}
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # sphinx_autodoc_typehints adds them
typehints_defaults = "comma"
always_use_bars_union = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True

highlight_language = "none"  # commands

html_theme = "furo"
html_title = f"anomalib_zsad {__version__}"
html_copy_source = False


def typehints_formatter(annotation: Any, config: Any) -> str | None:
    """Show `Annotated[int, ...]` as `int`; None leaves any other type to Sphinx."""
    return format_annotation(get_args(annotation)[0], config) if get_origin(annotation) is Annotated else None


def setup(app: Any) -> None:
    """Connect what changes docstrings before Napoleon reads them."""
    app.connect("autodoc-process-docstring", add_shared_arguments, priority=400)


def add_shared_arguments(app: Any, what: str, name: str, cls: Any, options: Any, lines: list[str]) -> None:
    """Append to a model's arguments those that models share, which are documented at its constructor."""
    del app, name, options
    constructor = vars(cls).get("__init__") if what == "class" else None
    _, _, shared = (getattr(constructor, "__doc__", None) or "").partition("Args:\n")
    if not shared or "Args:" not in lines:
        return
    first = lines.index("Args:") + 1
    end = next((i for i, line in enumerate(lines[first:], first) if line and not line.startswith(" ")), len(lines))
    while not lines[end - 1].strip():
        end -= 1
    documented = {line.split(":")[0] for line in lines[first:end]}
    lines[end:end] = [line for line in shared.rstrip().splitlines() if line.split(":")[0] not in documented]
