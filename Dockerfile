FROM python:3.11-slim-bookworm

ENV AIRFLOW_HOME=/opt/airflow \
    PYTHONPATH=/opt/airflow/plugins \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# Named volumes take the owner of the folder they are first mounted on, so both folders exist before any mount.
RUN useradd --system --uid 10001 --gid 0 --no-create-home --home-dir /opt/airflow --shell /usr/sbin/nologin airflow \
    && install -d -o airflow -g 0 -m 0750 /opt/airflow /opt/airflow/logs /opt/airflow/auth

WORKDIR /opt/airflow

# Another lock may be chosen, for instance one that adds an auth manager: docs/deploying.md.
ARG REQUIREMENTS=requirements.txt
COPY ${REQUIREMENTS} /opt/airflow/requirements.txt
RUN pip install --require-hashes -r requirements.txt

# Root owns the code: a task that is taken over cannot rewrite what the next one runs.
COPY dags /opt/airflow/dags
COPY plugins /opt/airflow/plugins
COPY include /opt/airflow/include

USER airflow
CMD ["airflow", "version"]
