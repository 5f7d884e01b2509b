"""
### Audit ledger

Every night: hold yesterday's ledger against the provider's own list, both ways, and ask for every promise as a question to
the ledger. It contacts nobody, so it may be cleared and run at any time.

**`audit` is red, and nothing goes out any more?** It found a breach and holds everything; its log names the breach and how many
cases there are, and so does `python -m reminders.operate holds`, as `audit` and the day. Where contacts are missing from the
ledger, there is a second hold, on `all`, for their recovery: release both.

| breach | what to do |
|---|---|
| `contacts that the ledger does not know` | something else sends from our numbers, or the ledger has forgotten: within a quarter of an hour `reconcile_deliveries` takes them from the provider's list, and the next cycle goes by it; find out who made them, then release the hold, which is refused before |
| `contacts that the provider does not know` | is `twilio_default` the account that sent them? If it is, the provider denies what it had accepted: ask it, then release |
| `guards are not as the migrations left them` | `preflight` of the next cycle names them |
| a promise, `P1` to `P5` | keep the hold; the query of that name in the statement `broken_promises` of `include/sql/8_audit.sql`, run as the owner, says which rows break it |

Red without a breach: `ledger_db` or the provider did not answer, or its list could not be read to the end; clear the task.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import dag
from airflow.timetables.trigger import CronTriggerTimetable

from reminders import tasks


@dag(
    dag_id="audit_ledger",
    schedule=CronTriggerTimetable("30 3 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5), "execution_timeout": timedelta(minutes=15)},
    tags=["reminders"],
    doc_md=__doc__,
)
def audit_ledger():
    tasks.audit()


audit_ledger()
