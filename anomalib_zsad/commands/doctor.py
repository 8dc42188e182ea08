"""The command `doctor`."""

from anomalib_zsad.commands.typed import command


@command("doctor")
def doctor() -> int:
    """Show what this installation has and what each command would need; exit status 0: predict would run."""
    import shutil
    import sys

    from anomalib_zsad.installation.examination import examine
    from anomalib_zsad.installation.findings import as_text

    examination = examine()
    print(as_text(examination.sections, shutil.get_terminal_size().columns if sys.stdout.isatty() else None))
    return 0 if examination.can_predict else 1
