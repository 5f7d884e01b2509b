"""What is not ours: time, the provider, the operator, crashes and restores. They do whatever their bounds allow."""

from __future__ import annotations

from itertools import chain

from tests.model import state as s
from tests.model.protocol import Protocol, Steps
from tests.model.state import Contact, Ledger, Mark, Worker, World, among, replaced

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
LOSES_MEMORY = frozenset({"a dump is put back", "a failover loses transactions"})


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
            *(self.worker(w, place) for place in places),
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

    def time(self, w: World) -> Steps:
        now, scenario = w.now + 1, self.scenario
        is_over = all(state in s.ENDED for state in w.ledger.reminders)
        if now > scenario.expires_at + s.DOUBT_LASTS or (is_over and all(me.acted_at < w.now for me in w.workers)):
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
        if scenario.residue_is_short and w.restored_at >= 0 and now > w.restored_at + s.LEASE:
            zombies = [me.at == "cleared" and me.acted_at <= w.restored_at for me in w.workers]
            w = w._replace(workers=among(Worker() if over else me for me, over in zip(w.workers, zombies, strict=True)))
        yield "a tick passes", None, w

    def older(self, call: Contact, now: int) -> Contact:
        """A call is over before its silence is."""
        return (
            call._replace(state="over") if call.state != "cancelled" and now >= call.made_at + s.STATUS_LASTS else call
        )

    def closed(self, w: World) -> World:
        """Nothing is worth sending any more: no cycle and no worker begins, and no claim is good for anything."""
        workers = among(Worker() if me.at == "claimed" else me for me in w.workers)
        left = w.left._replace(cycles=0, workers=0)
        return w._replace(workers=workers, ledger=w.ledger._replace(batches=()), left=left)

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
            if ledger.hold != "operator":
                # The ledger is taken as it is; its numbers go on above all that were ever reserved.
                ledger = ledger._replace(reserved=max(ledger.reserved, w.mark.reserved))
                w = w._replace(mark=Mark(ledger.identity, ledger.reserved))
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
        if not w.left.restores:
            return
        if w.dump is None:
            yield "the last that a restore will know", None, w._replace(dump=w.ledger)
            return
        left = w.left._replace(restores=w.left.restores - 1)
        back = w._replace(ledger=w.dump, dump=None, restored_at=w.now, left=left)
        if self.scenario.restore == "failover":
            # Who has lost the session comes to an end at the next step that needs it.
            goes_on = ("cleared",) if self.scenario.session_ends else ("claimed", "intended", "cleared", "answered")
            workers = among(me if me.at in goes_on else Worker() for me in w.workers)
            ledger = w.dump._replace(identity=w.dump.identity + 1)
            after = back._replace(ledger=ledger, workers=workers, planner=("", Mark()))
            yield "a failover loses transactions", None, after
        elif self.is_old(w, w.dump) or not self.scenario.dump_is_old:
            yield "a dump is put back", None, back

    def is_old(self, w: World, dump: Ledger) -> bool:
        return dump.reserved < w.planned and all(claim.until <= w.now for claim in dump.batches)
