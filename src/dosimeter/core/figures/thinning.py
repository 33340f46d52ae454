"""A curve with as many points as a screen can show, its extremes kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_POINTS = 400
_KEPT_PER_STRETCH = 4


def thin(
    x: ArrayLike, y: ArrayLike, *, most: int = MOST_POINTS, log_x: bool = False, log_y: bool = False
) -> NDArray[np.int64]:
    """Indices, increasing, of at most ``most`` points that draw the same curve as all of them.

    The curve is cut into stretches of equal length on the screen; each keeps its first, last, lowest and highest
    point (M4, Jugel et al. 2014, there with stretches of equal time). So the ends, the global extremes and spikes
    stay, and the steep left end of an ROC curve on logarithmic axes gets as many points as the flat rest.

    Args:
        x, y: (n,) finite, in drawing order; ``x`` need not be monotone.
        most: at least 4.
        log_x, log_y: the axis is logarithmic; values must then be above 0.

    Raises:
        ValueError: different lengths, not finite, not positive on a logarithmic axis, ``most`` below 4.
    """
    across, up = _on_screen("x", x, log_x), _on_screen("y", y, log_y)
    heights = np.asarray(y, dtype=np.float64)
    if across.shape != up.shape:
        raise ValueError(f"x and y must have equal lengths, got {across.size} and {up.size}")
    if most < _KEPT_PER_STRETCH:
        raise ValueError(f"most must be at least {_KEPT_PER_STRETCH}, got {most}")
    n = across.size
    if n <= most:
        return np.arange(n)
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(across), np.diff(up)))])
    stretches = most // _KEPT_PER_STRETCH
    cuts = np.searchsorted(travelled, np.linspace(0.0, travelled[-1], stretches + 1)[1:-1])
    edges = np.unique(np.concatenate([[0], cuts, [n]]))
    kept: set[int] = set()
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist()):
        part = heights[start:stop]
        kept |= {start, stop - 1, start + int(part.argmin()), start + int(part.argmax())}
    return np.array(sorted(kept), dtype=np.int64)


def _on_screen(name: str, values: ArrayLike, log: bool) -> NDArray[np.float64]:
    """``values`` as positions along an axis of length 1."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be one-dimensional and finite, got shape {array.shape}")
    if log:
        if array.size and array.min() <= 0:
            raise ValueError(f"{name} must be above 0 on a logarithmic axis, got {array.min():g}")
        array = np.log(array)
    span = np.ptp(array) if array.size else 0.0
    return (array - array.min()) / span if span > 0 else np.zeros_like(array)
