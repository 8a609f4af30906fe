"""Events in, behaviour state out.

What an event is: ``events``, on the wire ``ubi``; where it belongs: ``partitioners``, ``topics``. What follows from
it, as values, pure: ``searches``, ``sequences``, ``neighbours`` -> ``writes``. Where that goes: ``store`` (the promise,
and its meaning in memory), ``redis_store`` (the same on Redis). In which order: ``ingestion``. Who calls it: ``live``
(faust), ``bulk`` (kafka-python). What a request reads: ``reading``; what it leaves behind: ``feature_log``; what
becomes of that: ``labels``. Scores that were computed before: ``score_cache``, written by ``redis_scores``.
"""
