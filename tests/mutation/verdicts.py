"""What a trial finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Verdict:
    """`outcome` is killed, survived, hung or impossible: the database refuses to become the mutant.

    `digest` is the mutant's: the verdict is on no other.
    """

    outcome: str
    by: str = ""
    why: str = ""
    seconds: float = 0.0
    tests: int = 0
    digest: str = ""
