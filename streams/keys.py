r"""Names of keys in Redis: the one place that spells them.

``hr:<namespace>:<generation>:<kind>:{<id>}``, the id in a hash tag so that an entity stays in one slot::

    q:{hash}     a query      hash: item id -> edge bytes; "\0f" -> fences, "\0c" -> capped
    i:{hash}     an item      string: copies of its queries' edges
    s:{name}     a shopper    string: codec, fence, open searches, kept increments
    l:{name}     a shopper    string: the sequence, 25 bytes a record, in log order
    t:{hash}     a text       string: what a 64-bit hash stands for

and, beside the generations, ``hr:<namespace>:alias`` (the one that is read), ``hr:<namespace>:generations`` (a set of
their names), ``hr:<namespace>:<generation>:meta`` (what built it), ``hr:<namespace>:mark:{<worker>}`` (for waiting
until writes are durable) and ``hr:<namespace>:scores:{hash}`` (the score cache of a query, in the slot of its edges; a
hash: item id -> scores).
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from headrace.streams.identity import hash_of

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}\Z")


@lru_cache(maxsize=1 << 17)
def shopper_name(client_id: str) -> bytes:
    """The 16 bytes a shopper is stored under: no client id stands in a key."""
    return blake2b(client_id.encode(), digest_size=16).digest()


@lru_cache(maxsize=1 << 12)
def source_token(cluster_id: str, topic_id: str, partition: int) -> bytes:
    """The 8 bytes a source is fenced under."""
    return blake2b(f"{cluster_id}/{topic_id}/{partition}".encode(), digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of one generation.

    Raises:
        ValueError: a namespace or generation other than lower-case letters, digits, dots and dashes.
    """

    namespace: str
    generation: str

    def __post_init__(self) -> None:
        for name in (self.namespace, self.generation):
            if not _NAME.match(name):
                raise ValueError(f"{name!r}: use 1 to 64 of a-z, 0-9, dot and dash, a letter or digit first")

    @property
    def stem(self) -> str:
        """What every key of the generation begins with."""
        return f"hr:{self.namespace}:{self.generation}:"

    @property
    def meta(self) -> str:
        """What the generation was built with."""
        return f"{self.stem}meta"

    @property
    def alias(self) -> str:
        """Names the generation that is read."""
        return f"hr:{self.namespace}:alias"

    @property
    def generations(self) -> str:
        """The names of all generations."""
        return f"hr:{self.namespace}:generations"

    def query(self, query: int) -> bytes:
        """A query's edges."""
        return b"%sq:{%016x}" % (self.stem.encode(), query)

    def item(self, item_id: str) -> bytes:
        """An item's copies of edges."""
        return b"%si:{%016x}" % (self.stem.encode(), hash_of(item_id))

    def shopper(self, name: bytes) -> bytes:
        """A shopper's searches."""
        return b"%ss:{%s}" % (self.stem.encode(), name.hex().encode())

    def log(self, name: bytes) -> bytes:
        """A shopper's sequence."""
        return b"%sl:{%s}" % (self.stem.encode(), name.hex().encode())

    def text(self, name: int) -> bytes:
        """The text behind a hash."""
        return b"%st:{%016x}" % (self.stem.encode(), name)

    def scores(self, query: int) -> bytes:
        """The cached scores of a query's items; of no generation, since a score depends on none."""
        return b"hr:%s:scores:{%016x}" % (self.namespace.encode(), query)

    def mark(self, worker: str) -> str:
        """A worker's mark."""
        return f"hr:{self.namespace}:mark:{{{worker}}}"
