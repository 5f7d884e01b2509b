"""The network to the provider and to the relay is cut after every byte of a request, and of an answer.

Each cut is the only contact of a client of its own; then the network is well again, and two more cycles go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import cycle

import pytest

from reminders.model import Channel
from tests.kills.line import Line
from tests.kills.paths import Path, Paths
from tests.kills.proxy import Cut, End, Way

pytestmark = pytest.mark.chaos

RATE = 500.0
# Of the scene's plan.
MOST_IN_A_CYCLE = 1000
SECOND = timedelta(seconds=1)
# (What the ledger says of an attempt right after its cut, how often its client was reached) -> the path. Nothing else
# may be found: least of all one that was given back, and reached.
PATHS: Mapping[tuple[str, int], Path] = {
    ("not_contacted", 0): Path.CUT_BEFORE_THE_MESSAGE,
    ("in_doubt", 0): Path.DOUBT_AND_NOT_REACHED,
    ("in_doubt", 1): Path.DOUBT_AND_REACHED,
    ("accepted", 1): Path.CUT_AFTER_THE_ANSWER,
    ("delivered", 1): Path.CUT_AFTER_THE_ANSWER,
}
# What each direction is cut for. The provider's API has one request and one answer, the relay a conversation.
IS_FOR: Mapping[tuple[Channel, Way], tuple[Path, ...]] = {
    (Channel.EMAIL, Way.REQUEST): (
        Path.CUT_BEFORE_THE_MESSAGE,
        Path.DOUBT_AND_NOT_REACHED,
        Path.CUT_AFTER_THE_ANSWER,
    ),
    (Channel.EMAIL, Way.ANSWER): (Path.CUT_BEFORE_THE_MESSAGE, Path.DOUBT_AND_REACHED, Path.CUT_AFTER_THE_ANSWER),
    (Channel.SMS, Way.REQUEST): (Path.DOUBT_AND_NOT_REACHED,),
    (Channel.SMS, Way.ANSWER): (Path.DOUBT_AND_REACHED, Path.CUT_AFTER_THE_ANSWER),
    (Channel.CALL, Way.REQUEST): (Path.DOUBT_AND_NOT_REACHED,),
    (Channel.CALL, Way.ANSWER): (Path.DOUBT_AND_REACHED, Path.CUT_AFTER_THE_ANSWER),
}


def cuts(channel: Channel, way: Way, length: int) -> Iterator[Cut]:
    """A cut after every byte, from none to all: each byte with every end, or with one of the ends in turn.

    An email's request is its message, thousands of bytes that decide nothing; a call's exchange is as a text's.
    """
    has_every_end = channel is Channel.SMS or (channel, way) == (Channel.EMAIL, Way.ANSWER)
    in_turn = cycle(End)
    for after in range(length + 1):
        for end in End if has_every_end else (next(in_turn),):
            yield Cut(way, after, end)


@pytest.mark.parametrize(("channel", "way"), IS_FOR, ids=lambda each: each.value)
def test_cut_after_every_byte_nobody_is_contacted_twice_and_nobody_is_lost(
    line: Line, paths: Paths, channel: Channel, way: Way
) -> None:
    line.client(channel)
    line.cycle()
    assert line.violations() == [], "without a cut"
    whole, before = line.passed[way], line.outcomes()

    ordered = list(cuts(channel, way, whole))
    for cut in ordered:
        line.cuts[line.client(channel)] = cut
    for _ in range(0, len(ordered), MOST_IN_A_CYCLE):
        # Soon enough that nothing is tried again yet.
        batches = line.later(SECOND).prepare()
        line.trusted(channel).send(batches, RATE)
    assert not line.cuts
    happened = line.happened()
    assert [cut for cut in ordered if cut.end is not End.SILENCE and cut not in happened] == []
    # On a machine that is busy the time of a silence may be over before its byte.
    silent = Counter(cut in happened for cut in ordered if cut.end is End.SILENCE)
    assert silent[True] > silent[False], silent
    found = line.outcomes() - before
    assert set(found) <= set(PATHS), found
    assert found.total() == len(ordered), found

    given_back = sum(times for (state, _), times in found.items() if state == "not_contacted")
    line.recovered(channel)
    assert line.violations() == []
    ended = line.outcomes()
    assert ended["not_contacted", 1] == given_back

    for path in IS_FOR[channel, way]:
        paths.reached(path, sum(times for outcome, times in found.items() if PATHS[outcome] is path))
    if channel is Channel.EMAIL:
        paths.reached(Path.GIVEN_BACK_AND_SENT, given_back)
    if (channel, way) in ((Channel.SMS, Way.ANSWER), (Channel.CALL, Way.ANSWER)):
        proved = ended["delivered", 1] - before["accepted", 1] - found["accepted", 1]
        paths.reached(Path.DOUBT_PROVED, proved)
    else:
        # Nothing in the provider's list, or no list: no doubt ends before it was looked up.
        paths.reached(Path.DOUBT_TO_UNKNOWN, ended["unknown", 0] + ended["unknown", 1])
