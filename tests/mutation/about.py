"""Which files of tests are about what: they are tried on a mutant before those that only come by it."""

from __future__ import annotations

import re
from functools import cache

# What is changed, by its name, and the tests in the order in which they are tried.
ABOUT = {
    r"^(constraint|index) ": "clauses_checks row_guards configuration guards",
    r"attempt.(claimed|fenced|gated|limits_counted)": "recovery clauses_recovery",
    r"active_hold": "clauses_audit audit clauses_held clauses_gate recovery",
    r"earliest_due|could_have": "break_imports clauses_found break_restores",
    r"fence_claims": "races break_claims zombies",
    r"^trigger ": "clauses_reminder row_guards clauses_attempt clauses_limits guards clauses_recovery",
    r"abnormal|volume|account_seen|gate_bound|rehearsed_usual": "clauses_gate clauses_judge volume gate break_gate",
    r"judge|gap_before|age_of": "clauses_judge overlap clauses_gate gate break_gate volume review",
    r"function disposition|verdict": "clauses_disposition clauses_held ladder ladder_rows gate office_hours",
    r"check_ladder": "clauses_steps configuration",
    r"settle|check_|note_hold|mark_moves_up|refuse_|hold_is|louder|rewritten|judge_anew":
        "clauses_reminder row_guards overlap",
    r"has_proof|unreachable|rung_end": "clauses_ladder ladder_rows ladder break_louder fence",
    r"office": "office_hours clauses_disposition clauses_fence fence",
    r"fence_|policy_of|fenced|gated|claim": "clauses_fence clauses_recovery row_guards fence zombies break_claims",
    r"failing|failure|channel_outcome|heed_refusals": "clauses_failing clauses_outcome failing_channel reconcile",
    r"record_outcomes": "clauses_outcome reconcile doubts",
    r"give|one_way|count_attempts|limits|address_|ceiling": "clauses_limits clauses_fence row_guards fence one_line",
    r"moves_forward": "clauses_attempt",
    r"intend|lock_for_intent": "clauses_intent since_the_plan races one_line break_twice pace fence",
    r"contacted_once|made_once|open_call|provider_id": "row_guards stops races since_the_plan one_line break_twice",
    r"recover|rebuild|found|listed|identity|list_proves|may_have|could_be|called_off|missing_contacts":
        "clauses_recovery clauses_loss clauses_found recovery break_recovery break_imports break_restores preflight",
    r"plan_contacts": "clauses_plan pace one_line review operate",
    r"read_batch|note_refusal|read_contacts|read_holds|read_wordings": "clauses_words stops one_line",
    r"stage_merge|merge_ledger": "clauses_merge break_lost cancellation ladder_rows",
    r"books|open_cycle|place_hold|waiting_reminders|statement triage": "clauses_books break_lost overlap",
    r"unstage|read_book|open_appointments|last_cycle|close_cycle|invariants|overdue|to_review|attempts_|note_status":
        "clauses_cycle reconcile review break_lost",
    r"event|doubt|looked_up|to_cancel|applied": "clauses_doubts doubts break_doubt break_reports operate_doubts",
    r"attempts_of_day|broken_promises": "clauses_audit audit break_audit",
    r"held|holds?_|_hold|drop|turn_down|release|rehears|suppress":
        "clauses_operate operate break_operator break_operators review",
    r"guards|excessive|definition|reserve": "preflight clauses_cycle break_roles row_guards",
    r"cadence|ladder|account_|wording|hours": "configuration",
    r"transition": "guards clauses_reminder row_guards",
}  # fmt: skip


@cache
def files_about(of: str) -> tuple[str, ...]:
    """The files of tests, the first is the likeliest; none for what has no line here."""
    names = [name for pattern, about in ABOUT.items() if re.search(pattern, of) for name in about.split()]
    return tuple(f"tests/integration/test_{name}.py" for name in dict.fromkeys(names))
