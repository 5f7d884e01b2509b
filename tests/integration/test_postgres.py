"""The server of one machine: prepared once, on loopback only, and ended by nobody but its owner."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
from pathlib import Path

import psycopg
import pytest

from local import postgres
from local.postgres import PostgresError, Server, packaged_programs, reachable_folder

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the server to another user")


def rows(server: Server) -> int:
    with psycopg.connect(server.conninfo()) as connection:
        found = connection.execute("SELECT count(*) FROM kept").fetchone()
        return found[0] if found else 0


def test_it_is_prepared_once_keeps_its_rows_and_steps_over_taken_ports(place: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Server(place / "pg", port=port, fsync=False) as server:
            assert server.port > port
            with psycopg.connect(server.conninfo()) as connection:
                connection.execute("CREATE TABLE kept AS SELECT 1")
                settings = connection.execute(
                    "SELECT current_setting('listen_addresses'), current_setting('unix_socket_directories'),"
                    " current_setting('server_version_num')::int / 10000, current_setting('fsync'),"
                    " (SELECT string_agg(DISTINCT auth_method, ' ') FROM pg_hba_file_rules)"
                ).fetchone()
            assert settings == ("127.0.0.1", "", 18, "off", "scram-sha-256")
            password = server.password
            assert stat.S_IMODE((server.folder / "password").stat().st_mode) == 0o600
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(server.conninfo(password="wrong"))
            assert (server.create_database("once"), server.create_database("once")) == (True, False)
            first_pid = server.pid
    with Server(place / "pg") as again:
        assert (again.password, rows(again)) == (password, 1)
        assert again.pid != first_pid


def test_a_second_start_takes_over_and_only_its_own_pid_is_stopped(place: Path) -> None:
    first = Server(place / "pg", fsync=False)
    first.start()
    second = Server(place / "pg")
    second.start()
    assert (second.pid, second.port) == (first.pid, first.port)
    second.stop()
    assert not Server(place / "pg").attach()
    second.start()
    first.stop()
    assert Server(place / "pg").attach(), "the first was told to stop its own server, which had ended before"
    second.stop()


def test_committed_rows_survive_a_kill_and_the_server_starts_again(place: Path) -> None:
    server = Server(place / "pg")
    server.start()
    with psycopg.connect(server.conninfo()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1")
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    with Server(place / "pg") as again:
        assert rows(again) == 1


def test_a_pid_file_whose_pid_is_another_process_now_is_not_believed(place: Path) -> None:
    with Server(place / "pg", fsync=False) as server:
        pid_file = (server.folder / "data" / "postmaster.pid").read_text().splitlines()
    bystander = subprocess.Popen(["sleep", "60"], user=server.user.uid, group=server.user.gid)
    try:
        (server.folder / "data" / "postmaster.pid").write_text("\n".join([str(bystander.pid), *pid_file[1:], ""]))
        with Server(place / "pg", fsync=False) as again:
            assert again.pid != bystander.pid
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_an_interrupted_preparation_is_begun_again(place: Path) -> None:
    (place / "pg" / "data.new" / "base").mkdir(parents=True)
    with Server(place / "pg", fsync=False) as server:
        assert server.pid
    assert not (server.folder / "data.new").exists()


@as_root
def test_a_folder_that_the_server_cannot_reach_becomes_a_link_to_one_that_it_can(place: Path) -> None:
    home = place / "home"
    home.mkdir(mode=0o700)
    with Server(home / "pg", fsync=False) as server:
        assert (home / "pg").is_symlink()
        with psycopg.connect(server.conninfo()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1")
    try:
        with Server(home / "pg", fsync=False) as again:
            assert rows(again) == 1
        (home / "other").mkdir()
        (home / "other" / "file").touch()
        with pytest.raises(PostgresError, match="cannot reach"):
            reachable_folder(home / "other")
    finally:
        shutil.rmtree(server.folder)


@as_root
def test_programs_that_the_server_cannot_run_are_copied_beside_the_data(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = place / "environment"
    packages.mkdir(mode=0o700)
    install = packaged_programs().parents[1]
    for part in (install / "pginstall18", install.with_name(f"{postgres.PACKAGE}.libs")):
        shutil.copytree(part, packages / part.relative_to(install.parent), symlinks=True)
    hidden = packages / install.name / "pginstall18" / "bin"
    monkeypatch.setattr(postgres, "packaged_programs", lambda: hidden)
    with Server(place / "pg", fsync=False) as server:
        assert server.programs.is_relative_to(server.folder)


def test_a_server_that_cannot_start_says_where_to_look(place: Path) -> None:
    with Server(place / "pg", fsync=False) as server:
        pass
    with (server.folder / "data" / "postgresql.conf").open("a") as file:
        file.write("\nno_such_setting = 1\n")
    with pytest.raises(PostgresError, match=r"did not start; see .*/log") as refused:
        Server(place / "pg").start()
    assert server.password not in str(refused.value)
