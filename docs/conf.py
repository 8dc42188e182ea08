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
exclude_patterns = ["open_clip.md"]  # included by other pages

default_role = "code"  # `x` in docstrings

autoclass_content = "both"  # arguments that methods share are documented at the constructor
autodoc_class_signature = "separated"
autodoc_default_options = {"members": False, "undoc-members": False}
autodoc_preserve_defaults = True
autodoc_typehints = "description"
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
