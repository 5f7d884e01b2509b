"""
### Send due reminders

Every five minutes: read the booking database, bring what is due into the delivery ledger, and email, text or call each
client at most once for each step of an appointment's slot.

| task | what it does | when it is red |
|---|---|---|
| `preflight` | refuses to send without the ledger's guards; holds everything when the ledger has forgotten, as after a restore | its message names the guard or the way out; nothing was sent |
| `extract_due` | stages the book | `booking_db` is down or differs from the agreed schema; the next cycle catches up |
| `merge_ledger` | one MERGE into the ledger; holds an account whose book changed too much at once | `ledger_db` is down; the next cycle catches up |
| `triage` | gives each reminder its disposition, then holds what a person must see before it goes | as above |
| `plan_batches` | bundles ready reminders by account and address, each account's calls at its pace | as above |
| `dispatch` | takes a batch from any other task that has it, and sends it, a group at a time | its contacts in flight become `in_doubt` and are never sent again; the rest waits for the next cycle. Red by `ClaimLost`: another run of the task has the batch, its time is over, or the ledger was restored; nothing to do |
| `close_cycle` | writes the cycle's row, checks the invariants, warns of holds that are due for review | something above failed, or a promise is broken: look at its message first |

**Is it safe to clear a task, to run a date again, to trigger by hand?** Yes: the ledger refuses a second contact.
Only after a restore clear no `dispatch` before the next cycle's `preflight` has looked.
A backfill fills the ledger's history, expires what is over, sends nothing, and ends nothing for what the book lost, moved
or cancelled.

**How do I stop it?** Pause the DAG: within five seconds nobody is contacted any more, also by a `dispatch` that is running. Its
log says `paused: N contacts left for the next cycle`; they go in the next cycle after you resume, each once, or expire when
they are no longer useful. While Airflow cannot say whether the DAG is paused, it counts as paused. `airflow dags test` and
`dag.test()` run a paused DAG too: for them, and to stop a single channel, account or cycle, place a hold, which takes a second:
`python -m reminders.operate hold channel sms --why "..." --by NAME`.

**The log says that the ledger has forgotten?** It was restored, failed over, or points at another database. Everything is held, cycles go on,
and `reconcile_deliveries` takes what is missing from the provider's list; docs/operating.md has the rest.

**What would it send?** Trigger it with the parameter `rehearse`: the log of `preflight` says how many contacts would go out now, by
account and channel, what is usual, what stays back and why. No task after it runs; nothing is sent or changed.
While the DAG is paused such a run waits, and the form offers to unpause the DAG: rehearse by `make rehearse` then.

**Is something held?** `python -m reminders.operate holds` says what, why and since when (docs/operating.md has what to do about
each). Nothing of its scope goes until a person releases it, and what is no longer useful expires meanwhile:
`python -m reminders.operate release HOLD --by NAME`, or `drop`, or `turn-down` to email. After an hour without a green run
what is overdue is held in groups by account, step and age, and what comes due now goes. Held too are a volume of more than
three times the usual, and what an account that is seen for the first time has overdue.
`placed_by` is `failing_channel` when over a fifth, and at least 10, of a channel's last 50 outcomes failed;
`reminders.channel_outcome` has them. Put right what is wrong first: after the release the count starts afresh.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import Param, dag
from airflow.timetables.trigger import CronTriggerTimetable

from reminders import tasks


@dag(
    dag_id="send_due_reminders",
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=10),
    default_args={"retries": 1, "retry_delay": timedelta(seconds=5), "execution_timeout": timedelta(minutes=3)},
    params={"rehearse": Param(False, type="boolean", description="Say what would go out; send and change nothing")},
    tags=["reminders"],
    doc_md=__doc__,
)
def send_due_reminders():
    preflight = tasks.preflight()
    extract = tasks.extract_due()
    merge = tasks.merge_ledger()
    triage = tasks.triage()
    batch_ids = tasks.plan_batches()
    dispatch = tasks.dispatch.expand(batch_id=batch_ids)
    preflight >> extract >> merge >> triage >> batch_ids >> dispatch >> tasks.close_cycle()


send_due_reminders()
