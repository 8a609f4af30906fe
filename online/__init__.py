"""A request in, scores out; and the head that learns from what followed.

One request: ``messages``, ``lookup``, ``catalogue``, ``students`` and ``batch``, ``worker``, at the edge ``http``. The
two kinds of students: ``student`` with its ``scorer``, ``pair_student`` with its ``pairs``, ``pair_scores`` and
``score_writer``. Which model answers, and when that changes: ``registry``, ``loading``, ``opening``. Learning:
``refresh`` and its ``rounds``, ``course``, ``checkpoint``, ``publisher``.
"""
