"""
### Reconcile deliveries

Every two minutes: `close_dead_attempts` moves attempts whose worker died into doubt, and doubt without proof to `unknown`;
`poll_accepted` asks the provider how accepted texts and calls ended. It never contacts anybody, so it may be cleared and
run at any time. When `poll_accepted` is red, `twilio_default` or `ledger_db` is missing or incomplete; `unreadable` in its result counts what
Twilio did not answer. Reminders wait, and the next run asks again. What is accepted for 48 hours without a final status
ends `unknown`.
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
    dagrun_timeout=timedelta(minutes=5),
    default_args={"execution_timeout": timedelta(minutes=2)},
    tags=["reminders"],
    doc_md=__doc__,
)
def reconcile_deliveries():
    tasks.close_dead_attempts() >> tasks.poll_accepted()


reconcile_deliveries()
