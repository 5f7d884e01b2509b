"""The command: it tries every mutant that is not judged yet, and says which of them no test notices."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.memory import roomy_place
from tests.mutation.python import put_mutants_first


def main(arguments: list[str] | None = None) -> int:
    """0 when every mutant is judged and each survivor is explained in survivors.toml, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("target", choices=("sql", "python"))
    parser.add_argument("--only", default="", metavar="NAME", help="the mutants whose name holds this, judged or not")
    parser.add_argument("--seconds", type=float, default=20, help="how long the tests of a mutant may take together")
    parser.add_argument(
        "--survivors", action="store_true", help="try those again that lived and have no reason yet: say more --seconds"
    )
    parser.add_argument("--again", action="store_true", help="forget what was found before")
    parser.add_argument("--list", action="store_true", help="name the mutants and end")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args(arguments)
    # Ended by another, it still stops its server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="ringonce-mutation-", dir=roomy_place()) as name:
        folder = Path(name)
        folder.chmod(0o755)
        if chosen.target == "python":
            put_mutants_first(folder)
        # Not before: it imports what is to be mutated.
        from tests.mutation.work import work

        return work(chosen, folder)


if __name__ == "__main__":
    sys.exit(main())
