"""How large a difference is, freed of its unit; every formula takes weights, so that it can be resampled.

x and y are the scores of the first and the second method over n cases, d = x - y their differences, s sample
standard deviations. A weight says how often a case counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

__all__ = [
    "cliffs_delta",
    "cohens_d",
    "cohens_d_independent",
    "cohens_dz",
    "hedges_correction",
    "mean_difference",
]

Weights = NDArray[np.float64]
Values = NDArray[np.float64]


def mean_difference(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> Values:
    """mean(x) - mean(y).

    Parameters
    ----------
    x, y
        (n,) scores.
    weights
        (..., n), not negative: one answer per row. None: every case counts once.

    Returns
    -------
    (...) float64; NaN where nothing has weight.
    """
    return _mean(_array(x) - _array(y), _weights(x, weights))


def cohens_d(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> Values:
    """Cohen's d with the pooled deviation: (mean(x) - mean(y)) / sqrt((s_x² + s_y²) / 2).

    It ignores that the cases are the same. Arguments and answer as in `mean_difference`; NaN where fewer
    than two cases have weight, infinite where neither method varies.

    References
    ----------
    J. Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988.
    """
    w = _weights(x, weights)
    pooled = np.sqrt((_variance(_array(x), w) + _variance(_array(y), w)) / 2)
    return _ratio(mean_difference(x, y, w), pooled)


def cohens_d_independent(x: ArrayLike, y: ArrayLike) -> float:
    """Cohen's d of two samples that need not be of one size.

    (mean(x) - mean(y)) / s, with s² = ((n_x - 1) s_x² + (n_y - 1) s_y²) / (n_x + n_y - 2).

    Parameters
    ----------
    x, y
        (n_x,) and (n_y,). Of equal sizes the answer is that of `cohens_d`; NaN where one has less than two.
    """
    a, b = _array(x), _array(y)
    if min(a.size, b.size) < 2:
        return float("nan")
    sums = [float(_variance(values, np.ones(values.size))) * (values.size - 1) for values in (a, b)]
    return float(_ratio(a.mean() - b.mean(), np.sqrt(sum(sums) / (a.size + b.size - 2))))


def cohens_dz(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> Values:
    """Cohen's d of the paired differences: mean(d) / s_d.

    Arguments and answer as in `cohens_d`; NaN where all differences are zero.
    """
    w = _weights(x, weights)
    a, b = _array(x), _array(y)
    scale = float(max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0)))
    return _ratio(_mean(a - b, w), np.sqrt(_variance(a - b, w, scale)))


def hedges_correction(freedom: ArrayLike) -> Values:
    """Hedges' exact factor J(m) = Γ(m/2) / (sqrt(m/2) Γ((m-1)/2)), by which g = J d is unbiased.

    Parameters
    ----------
    freedom
        Degrees of freedom m of the deviation: 2n - 2 for `cohens_d`, n - 1 for `cohens_dz`. NaN below 2.

    References
    ----------
    L. V. Hedges, Distribution theory for Glass's estimator of effect size, J. Educ. Stat. 1981.
    """
    m = np.asarray(freedom, dtype=float)
    safe = np.where(m >= 2, m, 2.0)
    factor = np.exp(gammaln(safe / 2) - np.log(safe / 2) / 2 - gammaln((safe - 1) / 2))
    return np.where(m >= 2, factor, np.nan)


def cliffs_delta(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> Values:
    """Cliff's delta: over all n² combinations, the share with x_i > y_j minus the share with x_i < y_j.

    It ignores that the cases are the same. Arguments and answer as in `mean_difference`.

    References
    ----------
    N. Cliff, Dominance statistics, Psychol. Bull. 1993.
    """
    a, b, w = _array(x), _array(y), _weights(x, weights)
    order = np.argsort(b, kind="stable")
    ranked = b[order]
    # Weight of the y below each place in their order, from which that below and above any x follows.
    below = np.concatenate([np.zeros((*w.shape[:-1], 1)), np.cumsum(w[..., order], axis=-1)], axis=-1)
    total = below[..., -1]
    less = below[..., np.searchsorted(ranked, a, side="left")]
    more = total[..., None] - below[..., np.searchsorted(ranked, a, side="right")]
    return _ratio((w * (less - more)).sum(axis=-1), total**2)


# -- weighted moments -----------------------------------------------------------------------------------


def _array(values: ArrayLike) -> Values:
    return np.asarray(values, dtype=float)


def _weights(x: ArrayLike, weights: ArrayLike | None) -> Weights:
    return np.ones(_array(x).shape) if weights is None else np.asarray(weights, dtype=float)


def _mean(values: Values, weights: Weights) -> Values:
    return _ratio(weights @ values, weights.sum(axis=-1))


def _variance(values: Values, weights: Weights, scale: float = 0.0) -> Values:
    """Sample variance of values of which each is there as often as its weight says.

    `scale` is the size of the numbers that the values are differences of: what is left of equal differences
    is the rounding of those, and counts as zero.
    """
    total = weights.sum(axis=-1)
    shifted = values - (values.mean() if values.size else 0.0)  # so that nothing large is subtracted
    squares = weights @ shifted**2 - _ratio((weights @ shifted) ** 2, total)
    rounding = 8 * np.finfo(float).eps * max(scale, float(np.abs(values).max(initial=0.0)))
    squares = np.where(squares <= total * rounding**2, 0.0, squares)
    return np.where(total > 1, squares / np.where(total > 1, total - 1, 1), np.nan)


def _ratio(above: Values, below: Values) -> Values:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.divide(above, below))
