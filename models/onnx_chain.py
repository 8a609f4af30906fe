"""A model's ONNX files at work: one after the other, by the names of what each reads and gives.

A file called ``model...`` is a link; links run in the order of their names. A link reads what the caller gives or what
an earlier link gave; what one gives as ``next_rows`` the next one reads as ``rows``. The last gives one array.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from headrace import BundleError, BundleMismatch

MODEL_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class _Link:
    """One file: its session, what it reads and what it gives, by name."""

    session: onnxruntime.InferenceSession
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Chain:
    """The links of one model, open. Many threads may run it at once, each call on one core.

    Args:
        names: of all files of the model; those that are no links are left alone.
        read: gives the content of a file.
        given: the names of what a call gives; every one is read.
        result: the name of what comes out.
        where: names the model in errors, e.g. ``part 1b0e...``.

    Raises:
        BundleMismatch: there is no link, one cannot be opened, or it reads or gives something else.
    """

    def __init__(
        self, names: Collection[str], read: Callable[[str], bytes], given: Collection[str], result: str, where: str
    ) -> None:
        self._result: Final = result
        self._links: list[_Link] = []
        links = sorted(name for name in names if name.startswith("model") and name.endswith(".onnx"))
        if not links:
            raise BundleMismatch(f"{where} has no model.onnx: build it again")
        known = set(given)
        for name in links:
            session = _session(read, name, where)
            inputs = tuple(value.name for value in session.get_inputs())
            outputs = tuple(value.name for value in session.get_outputs())
            wanted = result if name == links[-1] else "next_rows"
            if not known.issuperset(inputs) or wanted not in outputs or (name == links[-1] and len(outputs) > 1):
                raise BundleMismatch(f"{name} of {where} has other inputs or outputs: build it again")
            self._links.append(_Link(session, inputs, outputs))
            known.update(output.removeprefix("next_") for output in outputs)
        unread = set(given).difference(*(link.inputs for link in self._links))
        if unread:
            raise BundleMismatch(f"the model of {where} does not read {', '.join(sorted(unread))}: build it again")

    def run(self, values: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """What the last link gives for the arrays of one batch, by the names that were given."""
        known = dict(values)
        for link in self._links:
            found = link.session.run(list(link.outputs), {name: known[name] for name in link.inputs})
            known |= {name.removeprefix("next_"): array for name, array in zip(link.outputs, found, strict=True)}
        result: NDArray[np.float32] = known[self._result]
        return result


def products_overflow(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this x86 processor may add uint8 x int8 products in 16 bits, where they overflow.

    Those without VNNI do. They then multiply exactly by an instruction twice as slow, which is also what happens where
    nothing can be found out; other architectures are exact by themselves and ignore the setting.
    """
    try:
        return "vnni" not in cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return True


def _session(read: Callable[[str], bytes], name: str, where: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    if products_overflow():
        options.add_session_config_entry("session.x64quantprecision", "1")
    # Shapes vary from call to call: a plan by shape and an arena that never shrinks only grow with every swap.
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(read(name), options, providers=["CPUExecutionProvider"])
    except BundleError:
        raise
    except Exception as error:  # onnxruntime has no error of its own above these
        raise BundleMismatch(f"{name} of {where} cannot be opened: {error!s:.300}") from error
