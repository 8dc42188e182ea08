"""The commands of `anomalib-zsad`. A new one is a function with `@command` in one of these files.

They load with the command line: slow imports are in the functions.
"""

from anomalib_zsad.commands import convert, doctor, experiments, knowledge_bases, lines, thresholds, weight_files

__all__ = ["convert", "doctor", "experiments", "knowledge_bases", "lines", "thresholds", "weight_files"]
