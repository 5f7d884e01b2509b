"""What is not ours: time, the provider, the operator, crashes and restores. They do whatever their bounds allow."""

from __future__ import annotations

from itertools import chain

from tests.model.protocol import Protocol, Steps
from tests.model.state import (
    DOUBT_LASTS,
    ENDED,
    LEASE,
    STATUS_LASTS,
    Contact,
    Ledger,
    Mark,
    Worker,
    World,
    among,
    replaced,
)

# A callback may come late, again, or after a later one: it may say whatever was true at some time.
SAYS = {
    "queued": ("accepted",),
    "ringing": ("accepted",),
    "over": ("accepted", "delivered"),
    "cancelled": ("accepted", "cancelled"),
}
# Steps for which nobody has to act but our own schedule.
BY_TIME_ALONE = frozenset(
    {"a tick passes", "a reminder expires", "a deadline passes", "doubt ends as unknown", "silence ends as unknown"}
)
BY_OPERATOR = frozenset({"the operator places a hold", "the operator releases the hold"})
LOSES_MEMORY = frozenset({"the ledger is restored", "a copy of its files is put back"})


class Model(Protocol):
    """The protocol in its environment."""

    def start(self) -> World:
        ledger = Ledger(("pending",) * len(self.scenario.reminders))
        return World(0, ledger, (), (Worker(), Worker()), self.scenario.left)

    def steps(self, w: World) -> Steps:
        # Of two workers that are alike one acts for both.
        places = (0,) if w.workers[0] == w.workers[1] else (0, 1)
        return chain(
            self.time(w),
            self.cycle(w),
            *(self.worker(w, place) for place in places if not self.is_barred(w, place)),
            self.provider(w),
            self.callbacks(w),
            self.reconcile(w),
            self.triage(w),
            self.cancelling(w),
            self.operator(w),
            self.recovery(w),
            self.crashes(w, places),
            self.restores(w),
        )

    def is_barred(self, w: World, place: int) -> bool:
        is_unseen = self.scenario.is_copy and self.scenario.preflight_comes_first and self.has_forgotten(w)
        return is_unseen and w.workers[place].at == "gone"

    def time(self, w: World) -> Steps:
        now, scenario = w.now + 1, self.scenario
        is_over = all(state in ENDED for state in w.ledger.reminders)
        if now > scenario.expires_at + DOUBT_LASTS or (is_over and all(me.acted_at < w.now for me in w.workers)):
            return
        if w.left.restores:
            # It comes in the first tick: later it would come as well, and without it the other scenarios are there.
            return
        # A cycle that was stopped is as one that died: none begins before it is over.
        w = w._replace(now=now, planner=("", Mark()))
        if scenario.channel == "call":
            w = w._replace(provider=tuple(self.older(call, now) for call in w.provider))
        if now == scenario.expires_at:
            w = self.closed(w)
        if scenario.residue_is_short and w.restored_at >= 0 and now > w.restored_at + LEASE:
            zombies = [me.at == "cleared" and me.acted_at <= w.restored_at for me in w.workers]
            w = w._replace(workers=among(Worker() if over else me for me, over in zip(w.workers, zombies, strict=True)))
        yield "a tick passes", None, w

    def older(self, call: Contact, now: int) -> Contact:
        """A call is over before its silence is."""
        return call._replace(state="over") if call.state != "cancelled" and now >= call.made_at + STATUS_LASTS else call

    def closed(self, w: World) -> World:
        """Nothing is worth sending any more: no cycle and no worker begins, and claims and numbers mean nothing."""
        workers = among(Worker() if me.at == "claimed" else me for me in w.workers)
        ledger = w.ledger._replace(batches=(), reserved=0)
        left = w.left._replace(cycles=0, workers=0)
        return w._replace(workers=workers, ledger=ledger, mark=Mark(), left=left)

    def provider(self, w: World) -> Steps:
        if not self.scenario.is_followed:
            return
        for place, contact in enumerate(w.provider):
            if contact.state in ("queued", "ringing"):
                over = replaced(w.provider, place, contact._replace(state="over"))
                yield "the contact is over", contact, w._replace(provider=over)

    def callbacks(self, w: World) -> Steps:
        if self.scenario.channel == "email":
            return
        for provider_id, contact in enumerate(w.provider, 1):
            is_known = self.rules.callback_goes_by_reference
            reference = contact.reference if is_known else self.latest(w, contact.reminder)
            for outcome in SAYS[contact.state]:
                ledger = self.recorded(w.ledger, reference, outcome, provider_id)
                if ledger is not w.ledger:
                    yield f"a callback says {outcome}", contact, w._replace(ledger=ledger)

    def latest(self, w: World, reminder: int) -> int:
        """What a callback without our reference would have to go by: the latest attempt at its address."""
        here = [a.reference for a in w.ledger.attempts if self.is_address_shared(a.reminder, reminder)]
        return max(here, default=0)

    def operator(self, w: World) -> Steps:
        ledger = w.ledger
        if not ledger.hold and w.left.holds:
            left = w.left._replace(holds=w.left.holds - 1)
            yield "the operator places a hold", None, w._replace(ledger=ledger._replace(hold="operator"), left=left)
        may_release = ledger.hold != "forgotten" or not self.rules.release_waits_for_recovery
        if ledger.hold and may_release:
            yield "the operator releases the hold", None, w._replace(ledger=ledger._replace(hold=""))

    def crashes(self, w: World, places: tuple[int, ...]) -> Steps:
        if not w.left.crashes:
            return
        w = w._replace(left=w.left._replace(crashes=w.left.crashes - 1))
        for place in places:
            if w.workers[place].at != "gone":
                yield "a worker dies", w.workers[place], self.acted(w, place, Worker())
        if w.planner[0]:
            yield "a cycle dies", None, w._replace(planner=("", Mark()))

    def restores(self, w: World) -> Steps:
        """What was committed after the moment that is saved is lost; who was at work then goes on."""
        if not w.left.restores:
            return
        if w.saved is None:
            yield "the last that a restore will know", None, w._replace(saved=w.ledger)
            return
        left = w.left._replace(restores=w.left.restores - 1)
        back = w._replace(ledger=w.saved, saved=None, restored_at=w.now, left=left)
        if not self.scenario.is_copy:
            yield "the ledger is restored", None, back._replace(identity=w.identity + 1)
        elif w.saved.reserved < w.planned or not self.scenario.copy_is_old:
            # The server was stopped for it: only who needs the ledger no more goes on.
            workers = among(me if me.at == "cleared" else Worker() for me in w.workers)
            yield "a copy of its files is put back", None, back._replace(workers=workers, planner=("", Mark()))
