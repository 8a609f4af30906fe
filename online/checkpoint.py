"""The learner's file: weights, offsets, what is held and the plans of all rounds, each round in one transaction.

SQLite in WAL mode with ``synchronous=FULL``: what `commit` has returned from survives a power cut. A round's plan is
written ahead (`begin_round`), so whoever starts again after a crash runs that round with the same ends.

One learner writes. The file names the epoch of its learner; a write by one with another epoch finds that in its own
transaction and changes nothing.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import msgspec

from headrace import BundleError
from headrace.online.rounds import Plan, RoundsState
from headrace.streams.held import Changes, Row

FORMAT = b"1"
NAME = "refresh.sqlite"

_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rounds (number INTEGER PRIMARY KEY, plan BLOB NOT NULL, learner BLOB);
CREATE TABLE IF NOT EXISTS held
    (id INTEGER PRIMARY KEY, search BLOB NOT NULL, kind INTEGER NOT NULL, blob BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS held_search ON held (search);
CREATE TABLE IF NOT EXISTS closed (id INTEGER PRIMARY KEY, search BLOB NOT NULL UNIQUE, blob BLOB NOT NULL);
"""


class Genesis(msgspec.Struct, frozen=True):
    """What a state folder began with: the rules, the logs and the weights.

    Attributes:
        rules: the `Rules` as JSON; kept as bytes, so that a file of other rules can still be named.
        sources: topic -> which log it was, as JSON.
        state: the `RoundsState` before the first round.
    """

    rules: bytes
    sources: dict[str, str]
    state: RoundsState


def learner_digest(learner: bytes) -> bytes:
    """What stands for a learner's bytes in the list of rounds: 16 bytes."""
    return blake2b(learner, digest_size=16).digest()


class Checkpoint:
    """The file of one state folder. Used by one thread.

    Args:
        folder: where it lies; made when it is not there.
        read_only: for a replay: nothing is written, and no epoch is needed.

    Raises:
        BundleError: it is of another format.
    """

    def __init__(self, folder: Path, read_only: bool = False) -> None:
        self.path = folder / NAME
        self._epoch = -1
        if read_only:
            self._file = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
            self._file.execute("BEGIN")  # all that is read is of one moment, though a learner may be at work
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self.path, isolation_level=None, timeout=10.0)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=FULL")
            self._file.executescript(_TABLES)
        found = self._fact("format")
        if found is not None and found != FORMAT:
            self.close()
            raise BundleError(
                f"{self.path} has format {found!r}, this version reads {FORMAT!r}: take a new --state folder"
            )

    def close(self) -> None:
        """Ends the connection."""
        self._file.close()

    def claim(self, epoch: int) -> None:
        """From now on only this epoch writes.

        Raises:
            BundleError: the file has a newer one.
        """
        with self._writing(check=False):
            newest = int(self._fact("epoch") or b"-1")
            if epoch < newest:
                raise BundleError(f"{self.path} belongs to epoch {newest}, not {epoch}: another learner took over")
            self._set("epoch", str(epoch).encode())
        self._epoch = epoch

    def genesis(self) -> Genesis | None:
        """What it began with; None for a new file."""
        found = self._fact("genesis")
        return None if found is None else msgspec.msgpack.decode(found, type=Genesis)

    def begin(self, genesis: Genesis) -> None:
        """A new file begins with this."""
        with self._writing():
            self._set("format", FORMAT)
            self._set("genesis", msgspec.msgpack.encode(genesis))
            self._set("state", msgspec.msgpack.encode(genesis.state))

    def state(self) -> RoundsState:
        """Where to go on."""
        return msgspec.msgpack.decode(self._fact("state") or b"", type=RoundsState)

    def held(self) -> Iterator[Row]:
        """What is held, in the order in which it was written."""
        for search, kind, blob in self._file.execute("SELECT search, kind, blob FROM held ORDER BY id"):
            yield Row(search, kind, blob)

    def closed(self) -> Iterator[tuple[bytes, bytes]]:
        """The searches that are over, in the order in which they ended."""
        yield from self._file.execute("SELECT search, blob FROM closed ORDER BY id")

    def planned(self) -> Plan | None:
        """The round that was begun and not committed, if there is one."""
        found = self._file.execute("SELECT plan FROM rounds WHERE learner IS NULL ORDER BY number DESC").fetchone()
        return None if found is None else msgspec.msgpack.decode(found[0], type=Plan)

    def rounds(self) -> Iterator[tuple[Plan, bytes]]:
        """The committed rounds and the digest of the learner after each, from the first one that is kept."""
        for plan, digest in self._file.execute(
            "SELECT plan, learner FROM rounds WHERE learner IS NOT NULL ORDER BY number"
        ):
            yield msgspec.msgpack.decode(plan, type=Plan), digest

    def begin_round(self, plan: Plan) -> None:
        """The plan is on disk: from now on this round has these ends, whatever happens."""
        with self._writing():
            self._file.execute(
                "INSERT INTO rounds (number, plan) VALUES (?, ?)", (plan.number, msgspec.msgpack.encode(plan))
            )

    def commit(self, state: RoundsState, changes: Changes, keep_rounds: int) -> None:
        """The round is done: weights, offsets, what is held and the round itself are on disk, or nothing is.

        Args:
            state: after the round.
            changes: what the round changed in what is held.
            keep_rounds: older plans are dropped; without its first round a state cannot be replayed any more.
        """
        gone = set(changes.gone)
        with self._writing():
            self._file.executemany(
                "INSERT INTO held (search, kind, blob) VALUES (?, ?, ?)",
                [row for row in changes.rows if row.search not in gone],
            )
            self._file.executemany("DELETE FROM held WHERE search = ?", [(key,) for key in changes.gone])
            self._file.executemany("INSERT OR REPLACE INTO closed (search, blob) VALUES (?, ?)", changes.closed)
            self._file.executemany("DELETE FROM closed WHERE search = ?", [(key,) for key in changes.forgotten])
            digest = learner_digest(state.course.learner)
            self._file.execute("UPDATE rounds SET learner = ? WHERE number = ?", (digest, state.number))
            self._file.execute("DELETE FROM rounds WHERE number <= ?", (state.number - keep_rounds,))
            self._set("state", msgspec.msgpack.encode(state))

    def size_bytes(self) -> int:
        """How large the file and its log are now."""
        files = (self.path, self.path.with_name(NAME + "-wal"))
        return sum(path.stat().st_size for path in files if path.exists())

    def _fact(self, name: str) -> bytes | None:
        table = self._file.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone()
        found = self._file.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone() if table else None
        return None if found is None else bytes(found[0])

    def _set(self, name: str, value: bytes) -> None:
        self._file.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (name, value))

    @contextmanager
    def _writing(self, check: bool = True) -> Iterator[None]:
        try:
            self._file.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise BundleError(
                f"{self.path} cannot be written ({error}): if another learner hangs in the middle of a write, end it"
            ) from error
        try:
            newest = int(self._fact("epoch") or b"-1")
            if check and newest != self._epoch:
                raise BundleError(
                    f"{self.path} belongs to epoch {newest}, not {self._epoch}:"
                    " another learner took over, stop this one"
                )
            yield
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        self._file.execute("COMMIT")
