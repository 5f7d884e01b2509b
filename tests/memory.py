"""Where a server for tests keeps its files."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

IN_MEMORY, ON_DISK = Path("/dev/shm"), Path(tempfile.gettempdir())
# Bytes, several times what the databases of a run have at once.
ROOM = 3 * 1024**3


def roomy_place() -> Path:
    """In memory where there is room: a disk takes most of a test's time to make and remove its thousand files."""
    has_room = os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free >= ROOM
    return IN_MEMORY if has_room else ON_DISK
