"""Examples in, parts of a bundle out.

Numbers of a reading: ``feature_names``, ``features``. What turns them into a score and learns: ``head``, judged by
``metrics``. The first student: ``minilm``. What is published and served: ``parts``, ``bundle``, ``golden``,
``champion``.
"""
