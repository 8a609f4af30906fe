"""The lower bound of a click rate, for many edges at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def wilson_lower(clicks: NDArray[Any], exposures: NDArray[Any], z: float = 1.96) -> NDArray[np.float64]:
    """The lower bounds of the 95 % intervals of clicks / exposures, float64 [N], 0 without exposures.

    To the last bit those of ``streams.neighbours.wilson_lower``.

    Source: Wilson 1927.
    """
    n = np.maximum(exposures, 1).astype(np.float64)
    rate = clicks / n
    margin = z * np.sqrt((rate * (1 - rate) + z * z / (4 * n)) / n)
    return np.asarray(
        np.where(exposures > 0, np.maximum(0.0, (rate + z * z / (2 * n) - margin) / (1 + z * z / n)), 0.0)
    )
