"""A request in, scores out; and the head that learns from what followed.

One request: ``messages``, ``lookup``, ``catalogue``, ``student`` and ``batch``, ``worker``, at the edge ``http``. Which
model answers, and when that changes: ``registry``, ``loading``. Learning: ``refresh`` and its ``rounds``, ``course``,
``checkpoint``, ``publisher``.
"""
