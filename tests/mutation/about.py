"""Which files of tests are about what: they are tried on a mutant before those that only come by it."""

from __future__ import annotations

import re
from functools import cache

# What is changed, by its name, and the tests in the order in which they are tried.
ABOUT = {
    r"abnormal|volume|account_seen|gate_bound|rehearsed_usual": "volume gate break_gate",
    r"judge|gap_before|age_of|fence_gate|gated|hold_kept|note_hold|hold_is|function ledger_clock":
        "gate break_gate volume review",
    r"disposition|settle|verdict|triage|waiting":
        "ladder ladder_rows break_edges office_hours since_the_plan gate break_louder break_twice",
    r"has_proof|unreachable|rung_end": "ladder_rows ladder break_louder fence",
    r"office": "office_hours fence",
    r"fence_attempts|policy_of|fenced": "row_guards fence since_the_plan break_twice office_hours ladder",
    r"failing|failure|channel_outcome|heed_refusals": "failing_channel reconcile",
    r"record_outcomes|give|one_way|moves_forward|note_status|attempts_":
        "reconcile stops races break_twice one_line failing_channel",
    r"intend|lock_for_intent|count_attempts|limits|address_|ceiling|contact|attempt\.":
        "row_guards fence since_the_plan races one_line break_twice break_edges pace",
    r"plan_contacts|batch|note_refusal|read_contacts|read_holds":
        "pace one_line review operate break_twice overlap stops",
    r"merge|staged?_|books|open_cycle|read_book|open_appointments|last_cycle|check_transition":
        "break_lost cancellation ladder_rows overlap gate row_guards",
    r"hold|held|drop|turn|release|rehears|suppress": "operate break_operator review break_gate",
    r"guard|excessive|identity|reserve|recorded|mark": "preflight break_roles row_guards guards",
    r"cadence|ladder|account_|wording": "configuration",
    r"louder|rewritten|trigger reminder": "row_guards operate break_lost ladder_rows races guards",
    r"contacted_once|made_once|open_call|provider_id": "row_guards stops races since_the_plan one_line break_twice",
    r"transition": "guards row_guards",
    r"close_cycle|cycle\.|invariants|overdue": "review gate break_lost volume",
}  # fmt: skip


@cache
def files_about(of: str) -> tuple[str, ...]:
    """The files of tests, the first is the likeliest; none for what has no line here."""
    names = [name for pattern, about in ABOUT.items() if re.search(pattern, of) for name in about.split()]
    return tuple(f"tests/integration/test_{name}.py" for name in dict.fromkeys(names))
