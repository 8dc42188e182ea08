"""`python -m anomalib_zsad`: the console script where it is not on the path."""

import sys

from anomalib_zsad.cli import main

if __name__ == "__main__":
    sys.exit(main())
