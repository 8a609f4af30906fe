"""What `headrace doctor` concludes of Redis: facts in, findings out. Pure."""

from typing import Final

from msgspec import Struct

from headrace.streams.findings import Finding

MEMORY_WARN: Final = 0.8
MEMORY_FAIL: Final = 0.95


class StoreFacts(Struct, frozen=True):
    """What Redis tells of itself; None: it does not say.

    Attributes:
        server: "Redis" or "Valkey".
        writes_ok: whether the last write to the append-only file went through.
        clock_ms: how far its clock is ahead of ours.
        open_door: it can be reached from elsewhere and was entered without a password.
    """

    server: str
    version: str
    policy: str | None = None
    appendonly: str | None = None
    appendfsync: str | None = None
    writes_ok: bool | None = None
    role: str | None = None
    replicas: int | None = None
    used_bytes: int | None = None
    max_bytes: int | None = None
    cluster: bool | None = None
    clock_ms: int = 0
    open_door: bool = False


def of_store(facts: StoreFacts) -> list[Finding]:
    """Whether Redis keeps what is written to it."""
    return [
        _version(facts),
        _policy(facts),
        _file(facts),
        _role(facts),
        _memory(facts),
        _cluster(facts),
        _door(facts),
    ]


def _unseen(check: str, setting: str, wanted: str) -> Finding:
    do = f"see to it that {setting} is {wanted}: the server does not let this user ask"
    return Finding(check, "warn", f"{setting} was not seen", do)


def _version(facts: StoreFacts) -> Finding:
    says = f"{facts.server} {facts.version}"
    if facts.server == "Valkey":
        return Finding("redis version", "ok", says)
    major, minor = (int(part) for part in [*facts.version.split("."), "0"][:2])
    if (major, minor) < (6, 2):
        return Finding("redis version", "fail", says, "upgrade to Redis 7.2 or newer, or to Valkey")
    if (major, minor) < (7, 2):
        do = "upgrade to Redis 7.2 or newer, or to Valkey; until then only --durability memory starts"
        return Finding("redis version", "fail", f"{says} cannot say what is on its disk", do)
    return Finding("redis version", "ok", says)


def _policy(facts: StoreFacts) -> Finding:
    check = "redis eviction"
    if facts.policy is None:
        return _unseen(check, "maxmemory-policy", "noeviction")
    if facts.policy != "noeviction":
        do = "set maxmemory-policy noeviction: it drops state in silence, and `consume` refuses it"
        return Finding(check, "fail", facts.policy, do)
    return Finding(check, "ok", facts.policy)


def _file(facts: StoreFacts) -> Finding:
    check = "redis append-only file"
    if facts.writes_ok is False:
        return Finding(check, "fail", "the last write to it failed", "look at the server's log and its disk")
    if facts.appendonly is None or facts.appendfsync is None:
        return _unseen(check, "appendonly", "yes and appendfsync everysec or always")
    if facts.appendonly != "yes":
        return Finding(check, "fail", "off", "set appendonly yes: `consume` refuses to acknowledge without it")
    if facts.appendfsync == "no":
        do = "set appendfsync everysec or always: `consume` refuses to acknowledge without it"
        return Finding(check, "fail", "never synced", do)
    return Finding(check, "ok", f"synced {facts.appendfsync}")


def _role(facts: StoreFacts) -> Finding:
    check = "redis replication"
    if facts.role is None:
        return _unseen(check, "the role", "that of a primary")
    if facts.role != "master":
        return Finding(check, "fail", "this is a replica: it takes no writes", "point --redis-url to its primary")
    if not facts.replicas:
        do = "add a replica and run `consume --durability replicas`, or accept a rebuild when the disk is lost"
        return Finding(check, "warn", "no replica", do)
    return Finding(check, "ok", f"{facts.replicas} replica{'s' if facts.replicas > 1 else ''}")


def _memory(facts: StoreFacts) -> Finding:
    check = "redis memory"
    used = facts.used_bytes or 0
    if facts.max_bytes is None:
        return _unseen(check, "maxmemory", "below what the machine has")
    if not facts.max_bytes:
        do = "set maxmemory: a server that outgrows its machine is killed, one at its limit only refuses writes"
        return Finding(check, "warn", f"{_mib(used)} used, no limit", do)
    share = used / facts.max_bytes
    says = f"{_mib(used)} of {_mib(facts.max_bytes)} used"
    do = "raise maxmemory, drop old generations (`headrace generations drop`), or build with smaller bounds"
    if share >= MEMORY_FAIL:
        return Finding(check, "fail", f"{says}: writes are about to be refused", do)
    return Finding(check, "warn", says, do) if share >= MEMORY_WARN else Finding(check, "ok", says)


def _cluster(facts: StoreFacts) -> Finding:
    if facts.cluster:
        do = "use one primary with replicas: this version speaks to one node and follows no redirection"
        return Finding("redis cluster", "fail", "cluster mode", do)
    return Finding("redis cluster", "ok", "one node, no cluster")


def _door(facts: StoreFacts) -> Finding:
    if facts.open_door:
        do = "set a password or an ACL user and rediss:// (TLS): whoever reaches it may read and delete all state"
        return Finding("redis access", "warn", "reached over the network without a password", do)
    return Finding("redis access", "ok", "a password, or not reachable from elsewhere")


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.0f} MiB"
