"""The scenarios, the protocol without each of its rules, and what recovery relies on.

Two variants are missing, as nothing breaks: "at least one match" for "exactly one" (no more contacts can fit than there
are attempts without an id, and of these there must be one anyway: `match_has_no_rival`), and a doubt that is matched
before the list has settled (a contact that is in the list is there; only an empty list is no proof, then as later).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.model.protocol import Rules
from tests.model.state import Left, Scenario

OVERLAP = Scenario("two batches for one reminder", Left(cycles=2, workers=3, oddities=1))
CRASHES = Scenario("a task that dies and is run again", Left(cycles=1, workers=3, crashes=2, oddities=1))
STOPPED = Scenario("a hold and a cancellation", Left(cycles=1, workers=2, oddities=1, holds=1, cancels=1))
IMPORTED_TWICE = Scenario(
    "one appointment under two ids", Left(cycles=1, workers=2, oddities=1), reminders=(("A", "line 1"), ("A", "line 1"))
)
ONE_LINE = Scenario(
    "two calls to one number",
    Left(cycles=1, workers=2),
    reminders=(("A", "line 1"), ("B", "line 1")),
    channel="call",
    expires_at=3,
)
FAILOVER = Scenario(
    "a failover", Left(cycles=2, workers=2, restores=1), restore="failover", is_followed=False, expires_at=3
)
LONG_FAILOVER = replace(
    FAILOVER, name="a failover, with cycles before and after", left=Left(cycles=3, workers=2, restores=1)
)
EMAIL_FAILOVER = replace(FAILOVER, name="a failover, by email", channel="email")
FAILOVER_ON_LINE = replace(
    FAILOVER,
    name="a failover, two calls to one number",
    reminders=(("A", "line 1"), ("B", "line 1")),
    channel="call",
)
FAILOVER_ON_PHONE = replace(
    FAILOVER_ON_LINE,
    name="a failover, two texts to one number",
    left=Left(cycles=1, workers=1, oddities=1, restores=1),
    channel="text",
)
DUMP = replace(LONG_FAILOVER, name="a dump that is put back", restore="dump")
DUMP_ON_LINE = replace(FAILOVER_ON_LINE, name="a dump that is put back, two calls to one number", restore="dump")


@dataclass(frozen=True)
class Sound:
    """What exploring the protocol as it is must come to: states at the least, what the residue does, and rare steps.

    `reaches` are kinds of steps for which the scenario is there; between them the scenarios reach every kind there is.
    """

    scenario: Scenario
    states: int
    residue: frozenset[str]
    reaches: frozenset[str]


ORDINARY = frozenset(
    {
        "a tick passes",
        "preflight reserves numbers",
        "preflight raises the mark",
        "the planner plans a batch",
        "a worker claims a batch",
        "a worker commits the intent",
        "the last check passes",
        "contact made and accepted",
        "a reminder expires",
    }
)
SOUND = [
    Sound(
        OVERLAP,
        26_900,
        frozenset(),
        frozenset(
            {
                "the intent is refused",
                "the last check declines",
                "contact made, the answer lost",
                "no contact made, the answer lost",
                "no contact made, but refused",
                "no contact made, never connected or 429",
                "a worker records accepted",
                "a worker records failed",
                "a worker records not_contacted",
                "a worker records in_doubt",
                "a deadline passes",
                "doubt ends as unknown",
                "silence ends as unknown",
                "the list proves a contact",
                "the contact is over",
                "a poll finds it delivered",
                "a callback says accepted",
                "a callback says delivered",
            }
        ),
    ),
    Sound(CRASHES, 10_900, frozenset(), frozenset({"a worker dies", "a cycle dies"})),
    Sound(
        STOPPED,
        14_400,
        frozenset({"R5"}),
        frozenset(
            {
                "the operator places a hold",
                "the operator releases the hold",
                "the provider is asked to cancel",
                "a poll finds it cancelled",
                "a callback says cancelled",
            }
        ),
    ),
    Sound(IMPORTED_TWICE, 12_300, frozenset(), frozenset({"the intent is refused"})),
    Sound(ONE_LINE, 27_600, frozenset({"R3"}), frozenset({"the contact is over"})),
    Sound(
        LONG_FAILOVER,
        23_300,
        frozenset({"R5"}),
        frozenset(
            {
                "the last that a restore will know",
                "a failover loses transactions",
                "a worker has lost its session",
                "preflight holds what has forgotten",
                "recovery is complete",
                "the operator releases the hold",
            }
        ),
    ),
    Sound(FAILOVER_ON_LINE, 15_900, frozenset({"R3", "R5"}), frozenset({"recovery is complete"})),
    Sound(FAILOVER_ON_PHONE, 4_400, frozenset(), frozenset({"the list proves a contact"})),
    Sound(EMAIL_FAILOVER, 4_800, frozenset({"R5"}), frozenset({"recovery is complete", "a worker records delivered"})),
    Sound(DUMP, 15_700, frozenset({"R5"}), frozenset({"a dump is put back", "recovery is complete"})),
    Sound(DUMP_ON_LINE, 8_600, frozenset({"R5"}), frozenset({"a dump is put back", "recovery is complete"})),
]


@dataclass(frozen=True)
class Variant:
    """The protocol without a rule: `breaks` names the property that suffers, then those that do on the way there."""

    name: str
    without: str
    scenario: Scenario
    breaks: tuple[str, ...]

    @property
    def rules(self) -> Rules:
        return replace(Rules(), **{self.without: False})


VARIANTS = [
    Variant("the intent is committed after the call", "intent_comes_first", CRASHES, ("S1", "S2", "S7")),
    Variant("no unique guard", "guard_is_unique", IMPORTED_TWICE, ("S1",)),
    Variant("doubt gives the guard back", "guard_outlasts_doubt", IMPORTED_TWICE, ("S1",)),
    Variant("two open calls to a number are allowed", "line_is_single", ONE_LINE, ("S3",)),
    Variant("a doubtful call leaves the line free", "doubt_keeps_the_line", ONE_LINE, ("S3",)),
    Variant("the claim is not compared", "claim_is_current", CRASHES, ("S4",)),
    Variant("a claim has no end", "claim_ends", CRASHES, ("S4",)),
    Variant("a claim is a number that a restored ledger gives again", "claim_is_more_than_a_number", DUMP, ("S4",)),
    Variant("a batch is claimed without a look at the mark", "claim_compares_the_mark", FAILOVER, ("S1",)),
    Variant("holds are not read at the last check", "hold_is_checked_last", STOPPED, ("S5",)),
    Variant("no deadline at the last check", "deadline_is_checked_last", DUMP, ("S1",)),
    Variant("the last check comes before the connection", "last_check_is_at_the_socket", STOPPED, ("S5",)),
    Variant("a lost answer is recorded as not contacted", "lost_is_doubt", CRASHES, ("S1", "S2")),
    Variant("what is past its lease is tried again", "lease_over_is_doubt", CRASHES, ("S1", "S2")),
    Variant("reconcile puts doubt back", "doubt_is_never_tried_again", CRASHES, ("S1", "S2", "S7")),
    Variant("doubt is tried again on an empty list", "empty_list_proves_nothing", CRASHES, ("S1", "S2", "S7")),
    Variant("a match may be another attempt's", "match_is_nobody_elses", ONE_LINE, ("S6",)),
    Variant("a match may fit two attempts", "match_has_no_rival", ONE_LINE, ("S6",)),
    Variant("the list proves what recovery has doubted", "list_proves_nothing_of_before", DUMP_ON_LINE, ("S6",)),
    Variant("reconcile reads the list, not the mark", "list_compares_the_mark", FAILOVER_ON_PHONE, ("S6",)),
    Variant("callbacks go by the number alone", "callback_goes_by_reference", ONE_LINE, ("S6",)),
    Variant("a late callback reopens what has ended", "evidence_only_advances", CRASHES, ("S7",)),
    Variant("a worker's record puts unknown back", "only_sending_is_given_back", CRASHES, ("S7",)),
    Variant("what is being sent expires", "only_pending_expires", CRASHES, ("S2", "S7")),
    Variant("doubt has no end", "doubt_ends", STOPPED, ("L1", "L2")),
    Variant("an accepted one waits for its status for ever", "silence_ends", STOPPED, ("L2",)),
    Variant("cancelled as soon as it is asked", "cancelled_by_the_providers_word", STOPPED, ("S2",)),
    Variant("the mark is raised after sending", "mark_is_raised_before_sending", DUMP, ("S1",)),
    Variant("the mark is not compared", "mark_is_compared", FAILOVER, ("S1",)),
    Variant("recovery reads a list that has not settled", "recovery_waits", FAILOVER, ("S1",)),
    Variant("recovery does not read the list", "recovery_reads_the_list", FAILOVER, ("S1",)),
    Variant("recovery ignores email", "recovery_doubts_email", EMAIL_FAILOVER, ("S1",)),
    Variant("recovery forgets who has expired", "recovery_minds_the_expired", DUMP_ON_LINE, ("S6",)),
    Variant("a release before recovery is complete", "release_waits_for_recovery", FAILOVER, ("S1",)),
]

# Nothing of ours enforces these; without one a key is contacted twice.
RELIED_ON = [
    replace(FAILOVER, name="a pooler keeps a worker's session over a failover", session_ends=False),
    replace(DUMP, name="a dump is put back that was written in the same cycle", dump_is_old=False),
    replace(FAILOVER, name="a worker that was stopped at its socket outlasts the recovery", residue_is_short=False),
]
# What counts as unknown because it may have been sent relies on no such thing: the price is what was not sent.
RELIES_ON_LESS = replace(EMAIL_FAILOVER, name="a failover, by email, whatever was stopped", residue_is_short=False)
