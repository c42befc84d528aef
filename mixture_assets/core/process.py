"""What the operating system says of this process."""

import resource
import sys


def peak_resident_bytes() -> int:
    """The most memory that this process held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
