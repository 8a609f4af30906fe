"""A request in, scores out; and the head that learns from what followed.

One request: ``messages``, ``lookup``, ``catalogue``, ``student`` and ``batch``, ``worker``, at the edge ``http``. Which
model answers, and when that changes: ``registry``, ``loading``. Learning: ``refresh`` and its ``rounds``, ``course``,
``checkpoint``, ``publisher``.
"""

import os

# onnxruntime >= 1.30 writes a device id into HOME and sends usage to its maker, from its import on, unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
