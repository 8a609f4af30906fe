"""Headrace: a streaming relevance system for e-commerce search.

The map, in the direction of imports (left may import right, never back)::

    headrace.commands -> headrace.online -> headrace.streams -> headrace.models

``streams`` turns events into behaviour state, ``models`` makes and reads what scores, ``online`` answers requests and
refreshes the head, ``commands`` reads the environment and puts the pieces together. ``local`` starts servers for a
laptop and for tests, never for production.

Errors, and whose fault each one is::

    HeadraceError
    ├── BadEvent           the record's: dead-lettered with its reason, the partition goes on
    │   └── TooLate        the record's: older than its topic allows, goes to <topic>.late
    ├── StoreUnavailable   Redis or the network: retried, nothing is acknowledged meanwhile
    ├── SourceChanged      the topic is not the one the state was built from: stop, the text says the way out
    ├── BundleError        the bundle's: it is refused, the model that serves goes on
    │   ├── BundleCorrupt  bytes are missing or differ from their hash
    │   └── BundleMismatch whole, but of another format, or it does not score as its golden requests say
    ├── BadRequest         the caller's: 400, names the field
    └── Overloaded         nobody's: 429, come back after Retry-After

Everything else is a bug and ends the process with a traceback; the supervisor restarts it, and the fences make that
safe.
"""


class HeadraceError(Exception):
    """The root of every error that Headrace raises on purpose."""


class BadEvent(HeadraceError):
    """A record that cannot be used.

    Attributes:
        field: where it is wrong, as a dotted path; "" when it is the record as a whole.
        reason: a short code with bounded values, fit for a metric label, e.g. ``not_json`` or ``future``.
    """

    def __init__(self, field: str, reason: str, detail: str = "") -> None:
        super().__init__(f"{field or 'record'}: {reason}" + (f" ({detail})" if detail else ""))
        self.field = field
        self.reason = reason
        self.detail = detail


class TooLate(BadEvent):
    """A record whose event time lies further before its Kafka timestamp than its topic allows."""


class StoreUnavailable(HeadraceError):
    """Redis cannot be reached, or a connection to it was lost; nothing may be acknowledged until it is back."""


class SourceChanged(HeadraceError):
    """The topic is not the one the state was built from; the text names the way out."""


class BundleError(HeadraceError):
    """A bundle that may not serve."""


class BundleCorrupt(BundleError):
    """Bytes of a bundle are missing or differ from their hash."""


class BundleMismatch(BundleError):
    """A bundle that is whole but of another format, or that does not score as its golden requests say."""


class BadRequest(HeadraceError):
    """A request that cannot be answered as it stands.

    Attributes:
        field: the field at fault, as a dotted path.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class Overloaded(HeadraceError):
    """More requests are waiting than the worker may hold.

    Attributes:
        retry_after_s: when it is worth coming back, seconds.
    """

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
