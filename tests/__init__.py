"""Tests: unit, integration on a real PostgreSQL, DAGs, acceptance on a real Airflow, the phone-network simulator."""
