"""Prints how often nominal 95 % intervals of a mean cover the truth: the table of docs/statistics.md.

    python tests/statistics/coverage.py

Takes about a minute. Every experiment has subjects with effects of their own (standard deviation 1, or none)
and noise (0.3, or 1 where there are no effects); the truth is a mean of 0.
"""

from __future__ import annotations

import numpy as np

from iterreg.statistics.bootstrap import SubjectBootstrap

EXPERIMENTS = 300
RESAMPLES = 1000


def ring(count: int) -> list[tuple[int, int]]:
    return [(i, (i + 1) % count) for i in range(count)]


def every_two(count: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(count) for j in range(i)]


def covered(pairs: list[tuple[int, int]], effects: float, noise: float, seed: int) -> tuple[float, float]:
    """Shares of the experiments that the interval covers, drawing subjects and drawing cases."""
    generator = np.random.default_rng(seed)
    subjects = 1 + max(max(pair) for pair in pairs)
    by_subject = SubjectBootstrap(*([str(pair[k]) for pair in pairs] for k in (0, 1)), resamples=RESAMPLES)
    by_case = SubjectBootstrap(
        *([f"{side} {i}" for i in range(len(pairs))] for side in "fm"), resamples=RESAMPLES
    )
    hits = np.zeros(2)
    for _ in range(EXPERIMENTS):
        own = effects * generator.standard_normal(subjects)
        values = np.array([own[i] + own[j] for i, j in pairs]) + noise * generator.standard_normal(len(pairs))

        def mean(weights: np.ndarray, values: np.ndarray = values) -> np.ndarray:
            with np.errstate(invalid="ignore"):
                return np.asarray(weights @ values / weights.sum(axis=-1))

        found = [drawn.interval(mean) for drawn in (by_subject, by_case)]
        hits += [one.low <= 0 <= one.high for one in found]
    return float(hits[0] / EXPERIMENTS), float(hits[1] / EXPERIMENTS)


def main() -> None:
    print("| design | subject effects: subjects | cases | noise alone: subjects | cases |")
    print("|---|---|---|---|---|")
    designs = {
        "ring of 8 (0 ← 1, 1 ← 2, …)": ring(8),
        "ring of 20": ring(20),
        "every two of 10": every_two(10),
        "every two of 40": every_two(40),
    }
    for number, (name, pairs) in enumerate(designs.items()):
        shares = [*covered(pairs, 1, 0.3, 2 * number), *covered(pairs, 0, 1, 2 * number + 1)]
        print(f"| {name} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")


if __name__ == "__main__":
    main()
