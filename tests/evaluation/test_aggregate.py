"""Dice30 and the sums over cases."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from iterreg.dataset.base import Pair, Scan
from iterreg.dataset.lumir import IN_DOMAIN, MULTI_MODAL
from iterreg.evaluation.aggregate import aggregates, dice30, metrics_json
from iterreg.evaluation.folder import PairRecord
from iterreg.evaluation.protocols import Measure, protocol_named
from iterreg.evaluation.scoring import PairScores, Score

DICE, TRE = Measure("DSC", "dice"), Measure("TRE_lm", "tre")


def record(number: int, dice: float, tre: float, task: str = "") -> PairRecord:
    pair = Pair(Scan(Path("f"), f"{number:04d}"), Scan(Path("m"), f"{number + 1:04d}"), task)
    affected = () if math.isfinite(tre) else (3,)
    robust = tre if math.isfinite(tre) else 2.0
    scores = {"DSC": Score("dice", dice, [dice], dice), "TRE_lm": Score("tre", tre, tre, robust, affected)}
    return PairRecord(pair, (DICE, TRE), Path("field"), PairScores(scores))


def test_dice30_takes_the_cells_that_were_worst_before() -> None:
    initial = np.array([[0.1, 0.9, 0.5, np.nan, 0.8], [0.2, 0.7, 0.3, 0.6, 0.95]])
    final = np.array([[0.4, 0.99, 0.6, 0.1, 0.9], [0.5, 0.8, 0.9, 0.7, 0.96]])
    assert dice30(initial, final) == pytest.approx((0.4 + 0.5 + 0.9) / 3)
    assert math.isnan(dice30(np.zeros((1, 1)), np.ones((1, 1)))), "30 % of one cell is none"


def test_quantiles_are_the_protocols() -> None:
    records = [record(n, 0.1 * n, float(n)) for n in range(1, 6)]
    for name, quantile in (("lumir24", 0.3), ("lumir25", 0.7), ("learn2reg", 0.7)):
        found = aggregates(records, protocol_named(name))
        assert found["TRE_lm"].official["30"] == pytest.approx(np.quantile(range(1, 6), quantile)), name
        assert found["DSC"].official["30"] == pytest.approx(np.quantile(np.arange(1, 6) / 10, 0.3)), name


def test_nan_poisons_the_official_mean_alone() -> None:
    found = aggregates([record(1, 0.5, float("nan")), record(2, 0.7, 4.0)], protocol_named("lumir25"))
    assert math.isnan(found["TRE_lm"].official["mean"])
    assert found["TRE_lm"].robust == 3
    assert found["TRE_lm"].affected == {"0001_0000<--0002_0000": (3,)}
    assert found["DSC"].official["mean"] == pytest.approx(0.6)


def test_lumir25_has_means_of_its_own() -> None:
    records = [
        record(1, 0.5, 1.0, IN_DOMAIN),
        record(2, 0.7, 1.0, IN_DOMAIN),
        record(3, 0.2, 1.0, MULTI_MODAL),
    ]
    totals = metrics_json(records, protocol_named("lumir25"), "LUMIR")["aggregates"]
    assert totals["ID_dice"]["mean"] == pytest.approx(0.6)
    assert totals["MM_dice"]["mean"] == 0.2
    assert "OOD_dice" not in totals
    assert "ID_dice" not in metrics_json(records, protocol_named("lumir24"), "LUMIR")["aggregates"]
