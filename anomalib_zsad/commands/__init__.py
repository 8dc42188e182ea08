"""The commands of `anomalib-zsad`. A new one is a function with `@command` in one of these files.

They load with the command line: whatever is slow to import, the function itself imports.
"""

from anomalib_zsad.commands import convert, doctor, experiments, knowledge_bases, lines, thresholds, weights

__all__ = ["convert", "doctor", "experiments", "knowledge_bases", "lines", "thresholds", "weights"]
