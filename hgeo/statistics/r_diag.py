"""R_diag: how much of the rows of a Hessian lies off its diagonal."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hgeo.statistics.entry_counts import checked
from hgeo.statistics.quantiles import quantile


class RDiag(NamedTuple):
    """R_diag as a mean and as a median.

    Attributes:
      mean: scalar, the mean over the rows.
      median: scalar, the median over the rows.

    Example:
      >>> hgeo.RDiag(*jnp.ones(2)).mean.shape
      ()
    """

    mean: jax.Array
    median: jax.Array


def r_diag(rows: Any) -> Any:
    """Computes mean and median of r_diag(i) over the rows of a Hessian.

        R_diag = mean_i r_diag(i),   r_diag(i) = sqrt(Σ_{j≠i} H_ij²) / |H_ii|

    Args:
      rows: r_diag(i) from `row_dominance`: an array of shape `(K,)`, or a mapping of such arrays
        by layer.

    Returns:
      An `RDiag` of scalars in the rows' dtype; for a mapping, an `OrderedDict` of them. A row
      whose diagonal entry is zero makes the mean inf. A row of zeros makes both NaN.

    Raises:
      ValueError: no rows, or no finite row.

    Example:
      >>> print(hgeo.r_diag(jnp.array([1.0, 2.0, 6.0])).mean)
      3.0

    Reference:
      Jiang, Malik, Li (2022), section on the diagonal dominance of the loss Hessian.
    """
    if isinstance(rows, Mapping):
        return OrderedDict((name, r_diag(values)) for name, values in rows.items())
    values = checked("r_diag", rows)
    return RDiag(jnp.mean(values, axis=-1), quantile(values, 0.5))
