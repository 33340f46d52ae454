"""Figures that attacks share, as Vega-Lite specifications with their data inside.

Plain dictionaries: nothing is drawn or imported here; drawing is ``report``'s. Colours come from ``palette``, which
reads on white; the report replaces exactly these colours by ones that also read in the dark. ``"width": "container"``
says that a figure may be drawn at any width.
"""

from dosimeter.core.figures.bars import IntervalRow, ReferenceLine, interval_bars
from dosimeter.core.figures.curves import ecdf, histogram, line
from dosimeter.core.figures.grids import ImageRow, heatmap, image_strip
from dosimeter.core.figures.scatter import ScatterPoint, scatter
from dosimeter.core.figures.thinning import thin

__all__ = [
    "ImageRow",
    "IntervalRow",
    "ReferenceLine",
    "ScatterPoint",
    "ecdf",
    "heatmap",
    "histogram",
    "image_strip",
    "interval_bars",
    "line",
    "scatter",
    "thin",
]
