"""The database: connecting, migrating under a lock, and transactions that raise the counter of changes."""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from bedplate.model.errors import BadInput, BedplateError
from bedplate.serve.models import Clock

_MIGRATIONS = Path(__file__).parent / "migrations"
# Any constants of our own: the keys of PostgreSQL's advisory locks.
_MIGRATION_LOCK = 0x62656470_0001
LEADER_LOCK = 0x62656470_0002
# How long a write waits for another writer before it fails and is tried again later (milliseconds).
_BUSY_MS = 5_000


class DatabaseGone(BedplateError):
    """The database cannot be reached, is locked or cannot be written; polls are answered from memory meanwhile."""


class Database:
    """One database, by URL: ``sqlite:///path`` or ``postgresql://…``.

    Raises:
        BadInput: the URL is not one, or of another kind of database.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)

    @property
    def shared(self) -> bool:
        """Whether several instances may use it side by side."""
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads.

        Raises:
            DatabaseGone: it cannot be reached.
        """
        with _explained(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def changing(self) -> Iterator[tuple[Connection, int]]:
        """A transaction that writes, and the number its rows carry as ``change``. Writers wait for one another here.

        Raises:
            DatabaseGone: it cannot be written.
        """
        with _explained(), self.engine.begin() as connection:
            raised = update(Clock).where(Clock.id == 1).values(value=Clock.value + 1).returning(Clock.value)
            yield connection, int(connection.execute(raised).scalar_one())

    def migrate(self) -> str:
        """Bring the schema to this version of Bedplate; safe when several start at once. Returns the revision.

        Raises:
            BadInput: the schema is of a newer Bedplate.
            DatabaseGone: it cannot be reached or written.
        """
        with _explained(), self.engine.connect() as connection:
            self._take_migration_lock(connection)
            config = Config()
            config.set_main_option("script_location", str(_MIGRATIONS))
            config.attributes["connection"] = connection
            script = ScriptDirectory.from_config(config)
            here = MigrationContext.configure(connection).get_current_revision()
            if here is not None and here not in {one.revision for one in script.walk_revisions()}:
                raise BadInput(
                    f"the database has schema {here}, which this Bedplate does not know",
                    remedy="use the Bedplate that migrated it, or a newer one",
                )
            command.upgrade(config, "head")
            connection.commit()
            return str(script.get_current_head())

    def current_revision(self) -> str | None:
        """The schema's revision, None before the first migration."""
        with self.reading() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return MigrationContext.configure(connection).get_current_revision()

    def _take_migration_lock(self, connection: Connection) -> None:
        if self.shared:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        else:
            connection.execution_options(bedplate_begin="BEGIN IMMEDIATE").exec_driver_sql("SELECT 1")

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()


class Leadership:
    """The right to move roll-outs on, of which there is one per database: an advisory lock of PostgreSQL, which ends
    with its connection, or a lock on a file beside an SQLite database, which ends with its process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._file: IO[bytes] | None = None

    def hold(self) -> bool:
        """Whether this instance leads; takes the lock when it is free.

        Raises:
            DatabaseGone: it cannot be reached; the lead is lost.
        """
        if not self._database.shared:
            return self._hold_file()
        try:
            with _explained():
                if self._connection is None:
                    self._connection = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                    asked = self._connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": LEADER_LOCK})
                    if not asked.scalar_one():
                        self.release()
                        return False
                    return True
                self._connection.execute(text("SELECT 1"))
                return True
        except DatabaseGone:
            self.release()
            raise

    def _hold_file(self) -> bool:
        if self._file is not None:
            return True
        path = Path(f"{self._database.engine.url.database}.leader")
        try:
            stream = path.open("ab")
        except OSError as error:
            raise DatabaseGone(f"cannot lock ({error.strerror})", where=str(path)) from error
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.close()
            return False
        self._file = stream
        return True

    def release(self) -> None:
        """Let another instance lead."""
        if self._file is not None:
            self._file.close()
            self._file = None
        connection, self._connection = self._connection, None
        if connection is not None:
            # By word first, so that the next leader need not wait until the server sees the connection end.
            with contextlib.suppress(DBAPIError):
                connection.execute(text("SELECT pg_advisory_unlock_all()"))
            # The lock belongs to the session: the connection must really end, not go back to the pool.
            connection.invalidate()
            connection.close()


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise BadInput("not a database URL", where=url[:80], remedy="write sqlite:///path or postgresql://…") from error
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise BadInput("the update service needs a database that stays", remedy="write sqlite:///path/to/file")
        engine = create_engine(parsed, connect_args={"timeout": _BUSY_MS / 1000})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.get_backend_name() == "postgresql":
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            pool_size=4,
            connect_args={"connect_timeout": 5, "options": "-c statement_timeout=30000 -c lock_timeout=10000"},
        )
    raise BadInput(f"no such kind of database: {parsed.get_backend_name()}", remedy="sqlite or postgresql")


def _prepare_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    # Transactions are begun by us (see _begin_sqlite); the driver's own rule begins them too late.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("bedplate_begin", "BEGIN"))


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise DatabaseGone(
            "the database cannot be used",
            details=[str(error.orig).strip().splitlines()[0][:200]],
            remedy="see that it runs, has space, and that nobody holds it locked; the service goes on by itself",
        ) from error
    except IntegrityError:
        raise
    except (DBAPIError, PoolTimeout) as error:
        raise DatabaseGone("the database refused", details=[str(error).splitlines()[0][:200]]) from error
