"""Colours of values: light enough for black text, and safe for colour-blind readers."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

# The scales end at these quantiles. Otherwise one layer of 1e8 would leave a single colour for all
# other layers.
INNER = (0.05, 0.95)


class Scale:
    """Colours for values, sequential, or diverging from a middle.

    Attributes:
      low: the value of the first colour, which smaller values share.
      high: the value of the last colour, which larger values share.
      is_logarithmic: whether equal ratios, not differences, are equally far apart.
    """

    def __init__(self, values: Sequence[float], is_logarithmic: bool, is_diverging: bool):
        """Takes the ends from `values`; a diverging scale has 1, or 0, in its middle."""
        self.is_logarithmic = is_logarithmic
        kept = np.array([v for v in values if np.isfinite(v) and (v > 0 or not is_logarithmic)])
        places = np.log(kept) if is_logarithmic else kept
        if not places.size:
            places = np.zeros(1)
        if is_diverging:
            end = float(np.quantile(np.abs(places), INNER[1])) or 1.0
            self._ends = (-end, end)
            colors = colormaps["PuOr"](np.linspace(0.22, 0.78, 256))
        else:
            self._ends = tuple(map(float, np.quantile(places, INNER)))
            colors = colormaps["YlGnBu"](np.linspace(0.0, 0.6, 256))
        self.low, self.high = np.exp(self._ends) if is_logarithmic else self._ends
        self._colors = [to_hex(color) for color in colors]

    def color(self, value: float) -> str:
        """The colour of a value, empty for NaN."""
        if np.isnan(value):
            return ""
        with np.errstate(divide="ignore", invalid="ignore"):
            place = np.log(max(value, 0.0)) if self.is_logarithmic else value
        low, high = self._ends
        share = (np.clip(place, low, high) - low) / (high - low) if high > low else 0.0
        return self._colors[round(float(share) * 255)]

    def sample(self, number: int = 9) -> list[str]:
        """Colours from the first to the last at equal distances, for a legend."""
        return [self._colors[k] for k in np.linspace(0, 255, number).round().astype(int)]
