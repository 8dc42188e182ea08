"""Typed functions as commands: the signature is the command line, the docstring its help."""

import inspect
from argparse import SUPPRESS
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

from docstring_parser import DocstringStyle, parse
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from anomalib_zsad.seam.help import PlainHelp

Function = Callable[..., int]

_MANY = 4
"""Parameters that are worth a configuration file."""


@dataclass(frozen=True)
class Command:
    """A function with the details of its command line that its signature lacks.

    Args:
        function: The function; it returns the exit status.
        names: Option strings (of a positional argument: how help shows it) of parameters that are not called as they
            are.
        groups: Titles in the help, and the parameters below each.
        hidden: Parameters that the help does not show.
    """

    function: Function
    names: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    hidden: Sequence[str] = ()


COMMANDS: dict[str, Command] = {}
"""Every command by its words, such as "weights where", in the order of the help."""

TOPICS: dict[str, str] = {}
"""Descriptions of groups of commands, by their first word."""


def command(words: str, **more: Any) -> Callable[[Function], Function]:
    """Make a typed function a command.

    Parameters before `*` are positional arguments, those after it options of the same name: `-n` for `n`, flags for
    booleans, one or more values for sequences. An argument without a default is required. Where there are many, they
    can also come from a YAML file (`--config`), unless the function has a parameter `config` itself.

    Args:
        words: Its name: "demo", or "weights where" with a topic in `TOPICS`.
        **more: As in `Command`.
    """

    def add(function: Function) -> Function:
        COMMANDS[words] = Command(function, **more)
        return function

    return add


def build_parser(prog: str, description: str, version: str) -> ArgumentParser:
    """Build the parser of all commands."""
    parser = _Parser(prog=prog, description=description, formatter_class=PlainHelp)
    parser.add_argument("--version", action="version", version=version, help="show the version and exit")
    first = parser.add_subcommands(metavar="COMMAND", title="commands", description=None)
    topics: dict[str, Any] = {}
    for words, entry in COMMANDS.items():
        topic, _, action = words.partition(" ")
        if not action:
            _add(first, prog, topic, _parser_of(entry))
            continue
        if topic not in topics:
            actions = _Parser(description=TOPICS[topic], formatter_class=PlainHelp)
            _add(first, prog, topic, actions)
            topics[topic] = actions.add_subcommands(metavar="COMMAND", title="commands", description=None)
        _add(topics[topic], f"{prog} {topic}", action, _parser_of(entry))
    return parser


def parsed_call(options: Namespace) -> tuple[str, dict[str, Any]]:
    """Return the words of the parsed command, and the arguments of its function."""
    words: list[str] = []
    while "subcommand" in options:
        words.append(options.subcommand)
        options = options[words[-1]]
    called = " ".join(words)
    parameters = inspect.signature(COMMANDS[called].function).parameters
    # A positional argument that was left out is None, whatever its default.
    return called, {name: options[name] for name in parameters if options[name] is not None}


class _Parser(ArgumentParser):
    """A parser whose messages are one line each."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        super().error(" ".join(message.split()), ex)


def _add(subcommands: Any, prog: str, name: str, parser: ArgumentParser) -> None:
    subcommands.add_subcommand(name, parser, help=parser.description)
    parser.prog = f"{prog} {name}"


def _parser_of(entry: Command) -> ArgumentParser:
    documented = parse(entry.function.__doc__ or "", DocstringStyle.GOOGLE)
    texts = {meta.arg_name: " ".join((meta.description or "").split()) for meta in documented.params}
    parser = _Parser(description=documented.short_description, formatter_class=PlainHelp)
    parameters = inspect.signature(entry.function).parameters
    if len(parameters) >= _MANY and "config" not in parameters:
        parser.add_argument("--config", action=ActionConfigFile, help="a YAML file with options of this command")
    groups = {
        name: group
        for title, names in entry.groups.items()
        for group in [parser.add_argument_group(title)]
        for name in names
    }
    hints = get_type_hints(entry.function)
    for name, parameter in parameters.items():
        text = SUPPRESS if name in entry.hidden else texts[name]
        _add_argument(groups.get(name, parser), parameter, hints[name], entry.names.get(name), text)
    return parser


def _add_argument(container: Any, parameter: inspect.Parameter, hint: Any, names: str | None, text: str) -> None:
    required = parameter.default is inspect.Parameter.empty
    kind, many = _without_none(hint), False
    if get_origin(kind) is Sequence:  # `--shots 0 1 2`, not `--shots [0,1,2]`
        kind, many = get_args(kind)[0], True
    how: dict[str, Any] = {"help": text, "type": kind} | ({"nargs": "+"} if many else {})
    if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
        if not required:
            how["nargs"] = "*" if many else "?"
            how["help"] += "" if many else f" (default: {parameter.default})"
        container.add_argument(parameter.name, metavar=names or parameter.name.upper(), **how)
        return
    dashes = "--" if len(parameter.name) > 1 else "-"
    if hint is bool:
        how["action"] = "store_true"
        del how["type"]
    else:
        default = list(parameter.default) if many and parameter.default and not required else parameter.default
        how |= {"required": True} if required else {"default": default}
    strings = names.split() if names else [f"{dashes}{parameter.name}"]
    container.add_argument(*strings, dest=parameter.name, **how)


def _without_none(hint: Any) -> Any:
    """The type of a parameter that may also be None: a message about it then names that type alone."""
    if get_origin(hint) not in {Union, UnionType}:
        return hint
    (kind,) = (part for part in get_args(hint) if part is not NoneType)
    return kind
