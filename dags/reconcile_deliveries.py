"""
### Reconcile deliveries

Every two minutes, find out what became of contacts. It never contacts anybody, so it may be cleared and run at any time.

| task | what it does | when it is red |
|---|---|---|
| `close_dead_attempts` | moves attempts whose worker died into doubt, and doubt without proof after two hours to `unknown` | `ledger_db` is down; the next run goes on |
| `resolve_doubts` | applies the inbox's reports; looks up in the provider's list, ten minutes after its deadline, what is in doubt | `twilio_default` or `ledger_db` is missing or incomplete |
| `poll_accepted` | cancels at the provider what the book has cancelled or moved and has not gone out; asks how accepted texts and calls ended | as above |
| `recover_forgotten` | after a restore, reads the provider's list, without which nobody can release what is held | the list could not be read to its end, or the key of the addresses is another; the next run reads it again |

`unreadable` in a result counts what Twilio did not answer: reminders wait, and the next run asks again. Doubt is never tried
again: what nobody can prove ends `unknown`, counts as contacted, and is on the list of `python -m reminders.operate doubts`. What is
accepted for 48 hours without a final status ends `unknown` too.

**`unknown_to_ledger` is not 0, or `recover_forgotten` says `lists_to_read: 1`?** The provider knows of contacts that the ledger does not: everything
is held until its list has been read, ten minutes later, and a cycle has gone by it. `python -m reminders.operate holds` says why and what
was found; then a person releases the hold.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import dag
from airflow.timetables.trigger import CronTriggerTimetable

from reminders import tasks


@dag(
    dag_id="reconcile_deliveries",
    schedule=CronTriggerTimetable("*/2 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=20),
    default_args={"execution_timeout": timedelta(minutes=2)},
    tags=["reminders"],
    doc_md=__doc__,
)
def reconcile_deliveries():
    tasks.close_dead_attempts() >> tasks.resolve_doubts() >> tasks.poll_accepted()
    tasks.recover_forgotten()


reconcile_deliveries()
