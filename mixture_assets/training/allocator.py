"""Memory settings that must be made before torch is imported. Standard library only."""

import ctypes
import os
import sys

_M_MMAP_MAX, _M_TRIM_THRESHOLD, _M_TOP_PAD = -4, -1, -2


def tune_allocator() -> bool:
    """Keep freed memory in the process, so that large tensors stop costing page faults.

    glibc gives large blocks back to the kernel on every free, and a training step frees and
    takes the same ones again: 1.1-1.8x on small models (docs/benchmarks.md).

    Returns:
        False where the C library is not glibc; nothing is changed there.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    options = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 1 << 28))
    return all([libc.mallopt(option, value) == 1 for option, value in options])
