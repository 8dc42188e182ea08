"""anomalib's own command with the names of this package known from the start: `python -m anomalib_zsad.anomalib ...`.

`anomalib benchmark` imports nothing because a configuration names it, so it would refuse this package's models.
"""

from anomalib.cli.cli import main

import anomalib_zsad.models  # noqa: F401  # what it names becomes known

if __name__ == "__main__":
    main()
