"""Examples in, parts of a bundle out.

Numbers of a reading: ``feature_names``, ``features``. What turns them into a score and learns: ``head``, judged by
``metrics``. The first student: ``minilm``. Teachers: ``teacher``, several as ``ensemble``; students that read pairs:
``pair_rows``, taught in ``distill``, made a part of in ``export``, at work in ``onnx_chain``. What is published and
served: ``parts``, ``bundle``, ``golden``, ``champion``.
"""

import os

# onnxruntime >= 1.30 writes a device id into HOME and sends usage to its maker, from its import on, unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
