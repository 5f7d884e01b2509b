"""The dispatch protocol: who of ours takes which step when, and what it changes.

Each actor yields every step that it could take now, as (kind of step, who or what, the world after it). A step is one
transaction, one check or one call: whatever else happens, happens between two of them. `Rules` names what the protocol
insists on; without one of them it is a broken variant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.model import state as s
from tests.model.state import Attempt, Claim, Contact, Ledger, Mark, Scenario, Worker, World, among, replaced

Step = tuple[str, Any, World]
Steps = Iterator[Step]

# What may still be recorded of an attempt in which state.
RECORDED_FROM = {
    "accepted": ("sending", "in_doubt", "unknown"),
    "delivered": ("sending", "in_doubt", "accepted", "unknown"),
    "cancelled": ("accepted",),
    # After the doubt it is `undelivered`: nothing arrived, but the contact counts as made.
    "failed": ("sending", "in_doubt", "unknown"),
    "not_contacted": ("sending",),
    "in_doubt": ("sending",),
}
# What a worker records of which answer. Only the last two prove that nobody was contacted.
OUTCOMES = {
    "accepted": "accepted",
    "refused": "failed",
    "lost": "in_doubt",
    "never connected": "not_contacted",
    "declined": "not_contacted",
}
FINAL = {"over": "delivered", "cancelled": "cancelled"}


@dataclass(frozen=True)
class Rules:
    """What the protocol insists on."""

    intent_comes_first: bool = True
    guard_is_unique: bool = True
    guard_outlasts_doubt: bool = True
    line_is_single: bool = True
    doubt_keeps_the_line: bool = True
    claim_is_current: bool = True
    claim_ends: bool = True
    claim_is_more_than_a_number: bool = True
    claim_compares_the_mark: bool = True
    hold_is_checked_last: bool = True
    deadline_is_checked_last: bool = True
    last_check_is_at_the_socket: bool = True
    lost_is_doubt: bool = True
    lease_over_is_doubt: bool = True
    doubt_is_never_tried_again: bool = True
    empty_list_proves_nothing: bool = True
    match_is_nobody_elses: bool = True
    match_has_no_rival: bool = True
    list_proves_nothing_of_before: bool = True
    list_compares_the_mark: bool = True
    callback_goes_by_reference: bool = True
    evidence_only_advances: bool = True
    only_sending_is_given_back: bool = True
    only_pending_expires: bool = True
    doubt_ends: bool = True
    silence_ends: bool = True
    cancelled_by_the_providers_word: bool = True
    mark_is_raised_before_sending: bool = True
    mark_is_compared: bool = True
    recovery_waits: bool = True
    recovery_reads_the_list: bool = True
    recovery_doubts_email: bool = True
    recovery_minds_the_expired: bool = True
    release_waits_for_recovery: bool = True


class Protocol:
    def __init__(self, scenario: Scenario, rules: Rules | None = None) -> None:
        self.scenario = scenario
        self.rules = rules or Rules()
        self.key_of = [key for key, _ in scenario.reminders]
        self.address_of = [address for _, address in scenario.reminders]

    # A cycle: preflight reserves attempt numbers, then raises the mark outside the database, then the planner plans.

    def has_forgotten(self, w: World) -> bool:
        return w.ledger.identity != w.mark.identity or w.ledger.reserved < w.mark.reserved

    def cycle(self, w: World) -> Steps:
        at, mark = w.planner
        if at == "" and w.left.cycles and "pending" in w.ledger.reminders and w.ledger.hold in ("", "operator"):
            w = w._replace(left=w.left._replace(cycles=w.left.cycles - 1))
            if self.rules.mark_is_compared and self.has_forgotten(w):
                held = w.ledger._replace(hold="forgotten", forgot_at=w.now)
                yield "preflight holds what has forgotten", None, w._replace(ledger=held)
            else:
                mark = Mark(w.ledger.identity, w.ledger.reserved + 1)
                ledger = w.ledger._replace(reserved=mark.reserved)
                yield "preflight reserves numbers", None, w._replace(ledger=ledger, planner=("reserved", mark))
        elif at == "reserved" and self.rules.mark_is_raised_before_sending:
            yield "preflight raises the mark", None, w._replace(mark=mark, planner=("marked", mark))
        elif at == "planned":
            yield "the mark is raised afterwards", None, w._replace(mark=mark, planner=("", Mark()))
        elif at and not w.ledger.hold:
            ledger = w.ledger._replace(batches=(*w.ledger.batches, Claim()))
            after = ("", Mark()) if at == "marked" else ("planned", mark)
            planned = mark.reserved if self.scenario.restore else 0
            w = w._replace(ledger=ledger, planner=after, planned=planned)
            yield "the planner plans a batch", None, w

    # A worker claims a batch. For each of its reminders: intent, last check, socket, record.

    def worker(self, w: World, place: int) -> Steps:
        me = w.workers[place]
        has_lost_session = me.session != w.ledger.identity and self.scenario.session_ends
        if has_lost_session and me.at not in ("gone", "cleared"):
            yield "a worker has lost its session", me, self.acted(w, place, Worker())
            return
        match me.at:
            case "gone":
                yield from self.claims(w, place)
            case "claimed" if self.may_intend(w, me):
                yield self.intent(w, place)
            case "claimed":
                yield "the intent is refused", me, self.next_of_batch(w, place)
            case "intended":
                yield self.last_check(w, place)
            case "connecting":
                yield "the connection is made", me, self.cleared(w, place, "cleared")
            case "cleared":
                yield from self.socket(w, place)
            case "answered":
                yield self.record(w, place)

    def acted(self, w: World, place: int, me: Worker) -> World:
        return w._replace(workers=among(replaced(w.workers, place, me)))

    def cleared(self, w: World, place: int, at: str) -> World:
        me = w.workers[place]._replace(at=at, acted_at=w.now, was_held=w.ledger.hold != "")
        return self.acted(w, place, me)

    def next_of_batch(self, w: World, place: int) -> World:
        me = w.workers[place]
        is_last = me.turn + 1 == len(self.key_of)
        return self.acted(
            w, place, Worker() if is_last else Worker("claimed", me.session, me.batch, me.claim, me.turn + 1)
        )

    def claims(self, w: World, place: int) -> Steps:
        """Airflow may run any task at any time, and again; where nothing is pending it would do nothing."""
        is_refused = self.rules.claim_compares_the_mark and self.has_forgotten(w)
        if is_refused or not w.left.workers or "pending" not in w.ledger.reminders:
            return
        w = w._replace(left=w.left._replace(workers=w.left.workers - 1))
        for batch, claim in enumerate(w.ledger.batches):
            me = Worker("claimed", w.ledger.identity, batch, Claim(claim.number + 1, w.now + s.CLAIM_LASTS))
            ledger = w.ledger._replace(batches=replaced(w.ledger.batches, batch, me.claim))
            yield "a worker claims a batch", me, self.acted(w._replace(ledger=ledger), place, me)

    def may_intend(self, w: World, me: Worker) -> bool:
        rules, ledger = self.rules, w.ledger
        claim = ledger.batches[me.batch] if me.batch < len(ledger.batches) else Claim()
        is_current = claim == me.claim if rules.claim_is_more_than_a_number else claim.number == me.claim.number
        return (
            (is_current or not rules.claim_is_current)
            and (w.now < claim.until or not rules.claim_ends)
            and not ledger.hold
            and ledger.reminders[me.turn] == "pending"
            and w.now < self.scenario.expires_at
            and not (rules.guard_is_unique and self.is_guarded(ledger, self.key_of[me.turn]))
            and not (rules.line_is_single and self.is_line_busy(ledger, me.turn))
        )

    def is_guarded(self, ledger: Ledger, key: str) -> bool:
        """The guard of a key stands while one of its attempts is not proven to have contacted nobody."""
        free = ("not_contacted",) if self.rules.guard_outlasts_doubt else ("not_contacted", "in_doubt", "unknown")
        return any(self.key_of[a.reminder] == key and a.state not in free for a in ledger.attempts)

    def is_line_busy(self, ledger: Ledger, reminder: int) -> bool:
        busy = s.OPEN if self.rules.doubt_keeps_the_line else ("sending", "accepted")
        return self.scenario.channel == "call" and any(
            a.state in busy and self.is_address_shared(a.reminder, reminder) for a in ledger.attempts
        )

    def is_address_shared(self, one: int, other: int) -> bool:
        return self.address_of[one] == self.address_of[other]

    def intent(self, w: World, place: int) -> Step:
        me = w.workers[place]
        w = w._replace(references=w.references + 1)
        intending = me._replace(at="intended", reference=w.references, acted_at=w.now)
        if not self.rules.intent_comes_first:
            return "a worker goes without an intent", me, self.acted(w, place, intending)
        w = w._replace(ledger=self.intended(w.ledger, intending, w.now))
        return "a worker commits the intent", me, self.acted(w, place, intending)

    def intended(self, ledger: Ledger, me: Worker, now: int) -> Ledger:
        attempts = (*ledger.attempts, Attempt(me.reference, me.turn, "sending", now))
        return ledger._replace(reminders=replaced(ledger.reminders, me.turn, "sending"), attempts=attempts)

    def last_check(self, w: World, place: int) -> Step:
        me = w.workers[place]
        is_held = self.rules.hold_is_checked_last and w.ledger.hold != ""
        # By its own clock the worker is late before anybody may doubt the attempt.
        is_late = self.rules.deadline_is_checked_last and w.now >= me.acted_at + s.LEASE
        if is_held or is_late:
            declined = me._replace(at="answered", acted_at=0, answer="declined")
            return "the last check declines", me, self.acted(w, place, declined)
        at = "cleared" if self.rules.last_check_is_at_the_socket else "connecting"
        return "the last check passes", me, self.cleared(w, place, at)

    def socket(self, w: World, place: int) -> Steps:
        me = w.workers[place]
        done = me._replace(at="answered", acted_at=0, was_held=False)
        state = {"email": "over", "text": "queued", "call": "ringing"}[self.scenario.channel]
        contact = Contact(me.reference, me.turn, w.now, state, is_late=w.now > me.acted_at)
        made = w._replace(provider=(*w.provider, contact))
        accepted = done._replace(answer="accepted", provider_id=len(made.provider))
        yield "contact made and accepted", me, self.acted(made, place, accepted)
        if w.left.oddities:
            left = w.left._replace(oddities=w.left.oddities - 1)
            for kind, answer, after in (
                ("contact made, the answer lost", "lost", made),
                ("no contact made, the answer lost", "lost", w),
                ("no contact made, but refused", "refused", w),
                ("no contact made, never connected or 429", "never connected", w),
            ):
                yield kind, me, self.acted(after._replace(left=left), place, done._replace(answer=answer))

    def record(self, w: World, place: int) -> Step:
        me = w.workers[place]
        outcome = OUTCOMES[me.answer]
        if outcome == "accepted" and self.scenario.channel == "email":
            outcome = "delivered"
        if outcome == "in_doubt" and not self.rules.lost_is_doubt:
            outcome = "not_contacted"
        ledger = w.ledger if self.rules.intent_comes_first else self.intended(w.ledger, me, w.now)
        ledger = self.recorded(ledger, me.reference, outcome, me.provider_id)
        return f"a worker records {outcome}", me, self.next_of_batch(w._replace(ledger=ledger), place)

    def recorded(self, ledger: Ledger, reference: int, outcome: str, provider_id: int = 0) -> Ledger:
        """The ledger after a record; unchanged when it comes too late, or when the attempt is forgotten."""
        for index, attempt in enumerate(ledger.attempts):
            if attempt.reference == reference and self.may_record(ledger, attempt, outcome):
                is_doubted = outcome == "failed" and attempt.state != "sending"
                return self.put(ledger, index, "undelivered" if is_doubted else outcome, provider_id)
        return ledger

    def may_record(self, ledger: Ledger, attempt: Attempt, outcome: str) -> bool:
        sources = RECORDED_FROM[outcome]
        if outcome == "not_contacted" and not self.rules.only_sending_is_given_back:
            sources = ("sending", "in_doubt", "unknown")
        if outcome == "accepted" and not self.rules.evidence_only_advances:
            sources = (*sources, "delivered", "cancelled")
        is_reopened = outcome == "accepted" and attempt.state == "unknown"
        return attempt.state in sources and not (is_reopened and self.is_line_busy(ledger, attempt.reminder))

    def put(self, ledger: Ledger, index: int, state: str, provider_id: int = 0) -> Ledger:
        """The attempt in this state, and its reminder with it; not contacted gives the key back: pending again."""
        attempt = ledger.attempts[index]
        if not attempt.provider_id and all(a.provider_id != provider_id for a in ledger.attempts):
            attempt = attempt._replace(provider_id=provider_id)
        ledger = ledger._replace(attempts=replaced(ledger.attempts, index, attempt._replace(state=state)))
        if ledger.reminders[attempt.reminder] in ("pending", "expired"):
            return ledger
        state = "pending" if state == "not_contacted" else state
        return ledger._replace(reminders=replaced(ledger.reminders, attempt.reminder, state))

    # Reconcile: what a worker left open ends by evidence, or by time. Triage: what was not sent expires.

    def reconcile(self, w: World) -> Steps:
        for index, attempt in enumerate(w.ledger.attempts):
            age = w.now - attempt.intended_at
            doubt_is_over = age >= s.DOUBT_LASTS or w.now >= self.scenario.expires_at
            if attempt.state == "sending" and age >= s.LEASE:
                state = "in_doubt" if self.rules.lease_over_is_doubt else "not_contacted"
                yield "a deadline passes", attempt, self.ended(w, index, state)
            elif attempt.state == "in_doubt" and not self.rules.doubt_is_never_tried_again:
                yield "doubt is tried again", attempt, self.ended(w, index, "not_contacted")
            elif attempt.state == "in_doubt" and doubt_is_over and self.rules.doubt_ends:
                yield "doubt ends as unknown", attempt, self.ended(w, index, "unknown")
            elif attempt.state == "accepted" and age >= s.STATUS_LASTS and self.rules.silence_ends:
                yield "silence ends as unknown", attempt, self.ended(w, index, "unknown")
            if attempt.state == "accepted" and attempt.provider_id:
                final = FINAL.get(w.provider[attempt.provider_id - 1].state)
                if final:
                    yield f"a poll finds it {final}", attempt, self.ended(w, index, final)
            if attempt.state in ("in_doubt", "unknown") and not attempt.provider_id:
                yield from self.listed(w, index)

    def ended(self, w: World, index: int, state: str, provider_id: int = 0) -> World:
        return w._replace(ledger=self.put(w.ledger, index, state, provider_id))

    def listed(self, w: World, index: int) -> Steps:
        """Proof from the list: one contact, which fits this attempt alone.

        What was attempted before the ledger forgot has none: a contact that fits may be one that it has forgotten.
        """
        attempt = w.ledger.attempts[index]
        is_old = attempt.intended_at <= w.ledger.forgot_at and self.rules.list_proves_nothing_of_before
        is_unsure = self.rules.list_compares_the_mark and self.has_forgotten(w)
        if self.scenario.channel == "email" or is_old or is_unsure:
            return
        is_alone = self.rivals(w, attempt.reminder) == 1 or not self.rules.match_has_no_rival
        for ids in self.lists(w):
            fits = self.fitting(w, ids, attempt.reminder, attempt.intended_at)
            if len(fits) == 1 and is_alone and self.may_record(w.ledger, attempt, "accepted"):
                yield "the list proves a contact", attempt, self.ended(w, index, "accepted", fits[0])
            elif not fits and attempt.state == "in_doubt" and not self.rules.empty_list_proves_nothing:
                yield "the list is empty", attempt, self.ended(w, index, "not_contacted")

    def lists(self, w: World) -> list[list[int]]:
        """What the provider's list may show now, as ids: what is young may be missing."""
        ids = list(range(1, len(w.provider) + 1))
        settled = [i for i in ids if w.now >= w.provider[i - 1].made_at + s.LIST_LAG]
        return [settled] if settled == ids else [settled, ids]

    def fitting(self, w: World, ids: list[int], reminder: int, since: int) -> list[int]:
        """The contacts that the reminder's address had since then, and that are not known as another attempt's."""
        known = {a.provider_id for a in w.ledger.attempts} if self.rules.match_is_nobody_elses else set()
        fits = {i for i, c in enumerate(w.provider, 1) if self.is_address_shared(c.reminder, reminder)}
        return [i for i in ids if i in fits - known and w.provider[i - 1].made_at >= since]

    def rivals(self, w: World, reminder: int) -> int:
        """How many attempts at the reminder's address may have made a contact whose id nobody knows."""
        may_have = [a for a in w.ledger.attempts if a.state in ("sending", "in_doubt", "unknown") and not a.provider_id]
        return sum(self.is_address_shared(a.reminder, reminder) for a in may_have)

    def triage(self, w: World) -> Steps:
        can_expire = ("pending",) if self.rules.only_pending_expires else ("pending", "sending")
        for reminder, state in enumerate(w.ledger.reminders):
            if state in can_expire and w.now >= self.scenario.expires_at:
                states = replaced(w.ledger.reminders, reminder, "expired")
                yield "a reminder expires", reminder, w._replace(ledger=w.ledger._replace(reminders=states))

    def cancelling(self, w: World) -> Steps:
        """The provider is asked to cancel what has not gone out; whether it did is heard as every status is."""
        for index, attempt in enumerate(w.ledger.attempts if w.left.cancels else ()):
            if attempt.state == "accepted" and attempt.provider_id:
                asked = w._replace(left=w.left._replace(cancels=w.left.cancels - 1))
                if not self.rules.cancelled_by_the_providers_word:
                    asked = self.ended(asked, index, "cancelled")
                contact = w.provider[attempt.provider_id - 1]
                if contact.state == "queued":
                    contact = contact._replace(state="cancelled")
                provider = replaced(w.provider, attempt.provider_id - 1, contact)
                yield "the provider is asked to cancel", attempt, asked._replace(provider=provider)

    # Recovery: whoever a ledger that has forgotten may have contacted counts as contacted. Then it may be released.

    def recovery(self, w: World) -> Steps:
        is_early = self.rules.recovery_waits and w.now < w.ledger.forgot_at + s.RECOVERY_WAITS
        if w.ledger.hold != "forgotten" or is_early:
            return
        for ids in self.lists(w):
            ledger = w.ledger._replace(hold="recovered")
            for reminder, state in enumerate(ledger.reminders):
                ledger = self.rebuilt(w, ledger, ids, reminder) if state == "pending" else ledger
            yield "recovery is complete", None, w._replace(ledger=ledger)

    def rebuilt(self, w: World, ledger: Ledger, ids: list[int], reminder: int) -> Ledger:
        """With an attempt for a reminder that may have had one: accepted, or unknown where it may be another's."""
        if self.scenario.channel == "email":
            fits, is_certain = [0] if self.rules.recovery_doubts_email else [], False
        else:
            fits = self.fitting(w, ids, reminder, 0) if self.rules.recovery_reads_the_list else []
            uncontacted = ("pending", "expired") if self.rules.recovery_minds_the_expired else ("pending",)
            may_have = [i for i, state in enumerate(w.ledger.reminders) if state in uncontacted]
            others = sum(self.is_address_shared(i, reminder) for i in may_have) - 1 + self.rivals(w, reminder)
            is_certain = len(fits) == 1 and not others
        if not fits:
            return ledger
        state, provider_id = ("accepted", fits[0]) if is_certain else ("unknown", 0)
        found = Attempt(0, reminder, state, ledger.forgot_at, provider_id)
        states = replaced(ledger.reminders, reminder, found.state)
        return ledger._replace(reminders=states, attempts=(*ledger.attempts, found))
