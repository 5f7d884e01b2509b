"""
### Fan out

Sends every batch that the ledger has planned last, each in a mapped task, by the dispatch path of the product and a
provider that answers at once. `make bench` plans one reminder a batch, or many, and compares.
"""

from datetime import UTC, datetime

from airflow.sdk import dag, task


@task
def planned_batches() -> list[int]:
    from tests.bench.fanout import planned_batches

    return planned_batches()


@task(retries=0)
def send_batch(batch_id: int) -> int:
    from tests.bench.fanout import send_batch

    return send_batch(batch_id)


@dag(dag_id="fan_out", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), doc_md=__doc__)
def fan_out():
    send_batch.expand(batch_id=planned_batches())


fan_out()
