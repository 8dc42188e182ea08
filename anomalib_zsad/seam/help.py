"""How argparse writes the help of an option."""

from argparse import SUPPRESS, Action

from jsonargparse import DefaultHelpFormatter


class PlainHelp(DefaultHelpFormatter):
    """Help with defaults that mean something, without types."""

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        silent = action.default is None or action.default is False or action.default == SUPPRESS
        return text if silent or "%(default)" in text else f"{text} (default: %(default)s)"
