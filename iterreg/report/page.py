"""Puts everything on one page that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

import iterreg
from iterreg.dataset.base import Dataset
from iterreg.report.gallery import MethodOnPair, PairSection, Ranking
from iterreg.report.pictures import DIFFERENCE_LIMIT, LOG2_LIMIT
from iterreg.report.results import NOT_RUN, Failure, Results
from iterreg.report.tabulating import (
    Cell,
    TableView,
    by_pair,
    by_scope,
    effects,
    overview,
    pairwise,
    rankings,
)
from iterreg.report.words import costs, count, number, sentences
from iterreg.runs import JobStatus, MethodResults
from iterreg.statistics.comparison import Comparison
from iterreg.statistics.measures import measure_named

__all__ = ["Page", "ranking_of", "render"]

_FURTHER = ("folded_voxels", "jacobian_min", "inverse_consistency_mean_mm")
"""What is shown of each pair beyond the compared measures."""

_COUNTS = ("folded_voxels",)


@dataclass(frozen=True, eq=False)
class Page:
    """What a report is made of.

    Attributes
    ----------
    comparison
        None when not one pair has a number.
    sections
        The pairs, worst first; empty when no images are known.
    notes
        What a reader must know, one sentence each.
    evaluated
        By whom and how the scores were made, a sentence.
    """

    results: Sequence[Results]
    dataset: Dataset | None
    comparison: Comparison | None
    sections: Sequence[PairSection]
    ranking: Ranking
    notes: Sequence[str] = ()
    evaluated: str = ""


def ranking_of(comparison: Comparison | None) -> Ranking:
    """Pairs are ranked by the first measure that is compared, Dice where there is none."""
    measure = comparison.measures[0] if comparison else measure_named("DSC")
    return Ranking(measure.name, measure.title, bool(measure.higher_is_better))


def render(page: Page) -> str:
    """The whole file.

    Everything that comes from outside (names, reasons, logs, parameters) is escaped.
    """
    environment = Environment(
        loader=PackageLoader("iterreg.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    return template.render(_content(page)) + "\n"


def _content(page: Page) -> dict[str, Any]:
    comparison, results = page.comparison, page.results
    names = [one.entry.name for one in results]
    runs = [run.name for run in comparison.scores.own_runs] if comparison else names
    pairs = _pairs(page)
    lead, said = _words(page)
    figures = list(_figures(comparison)) if comparison else []
    primary = comparison.measures[0] if comparison else None
    shown = [one for one in figures if primary and one["measure"] == primary.name]
    missing = [
        found
        for one in results
        for case, name in pairs.items()
        if (found := one.failure(case, name)) is not None
    ]
    failed = [one for one in missing if one.outcome != NOT_RUN]
    data = page.dataset.name if page.dataset else ""
    return {
        "title": f"Registration report: {data}" if data else "Registration report",
        "subtitle": f"{count(len(names), 'method')}, {count(len(pairs), 'pair')}"
        + (f", {count(len(failed), 'result')} failed" if failed else "")
        + (f", {len(missing) - len(failed)} not there yet" if len(failed) < len(missing) else ""),
        "version": iterreg.__version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d, %H:%M UTC"),
        "style": _asset("style.css"),
        "script": _asset("sort.js"),
        "colours": _colours(runs + [name for name in names if name not in runs]),
        "lead": lead,
        "said": said,
        "notes": [
            *page.notes,
            *map(_sentence, comparison.notes if comparison else ()),
            *_background(results),
        ],
        "overview": overview(comparison, results, pairs),
        "by_pair": list(_by_pair(page, pairs)),
        "source": str(page.dataset.source.absolute()) if page.dataset else "",
        "figures": shown,
        "more_figures": [one for one in figures if one not in shown],
        "comparisons": list(_comparisons(comparison)) if comparison else [],
        "failures": failed,
        "not_run": list(_not_run(missing)),
        "ranked": f"Ranked by the worst {page.ranking.title} that a registering method has.",
        "sections": [_section(one, page.ranking, _shown(comparison)) for one in page.sections],
        "methods": [_method(one, list(dict.fromkeys(pairs.values()))) for one in results],
        "difference_limit": round(100 * DIFFERENCE_LIMIT),
        "log2_limit": f"{LOG2_LIMIT:g}",
        "evaluated": page.evaluated,
    }


def _pairs(page: Page) -> dict[str, str]:
    """Case -> name of its pair."""
    if page.dataset:
        return {pair.case: pair.name for pair in page.dataset.pairs}
    return {case: row.get("pair") or case for one in page.results for case, row in one.rows.items()}


def _words(page: Page) -> tuple[str, list[str]]:
    if page.comparison is None:
        return "Not one pair could be scored: see the failed pairs and their reasons.", []
    lead, said = sentences(page.comparison)
    more = [costs(page.comparison), *_folding(page)]
    return lead, said + [one for one in more if one]


def _folding(page: Page) -> Iterator[str]:
    """Who folds, in words: the picture of a smooth map is part of the verdict."""
    comparison = page.comparison
    assert comparison is not None
    if "folded_percent" not in [measure.name for measure in comparison.scores.measures]:
        return
    table = comparison.scores.table("folded_percent")
    worst = {str(run): float(table[run].max()) for run in table if table[run].notna().any()}
    folding = {run: value for run, value in worst.items() if value > 0}
    if worst and not folding:
        yield "No method folds a voxel of any brain (central differences)."
    elif folding:
        said = ", ".join(f"{run} up to {number(value, 3)} % of a brain" for run, value in folding.items())
        others = "" if len(folding) == len(worst) else "; the others fold none"
        yield f"Folding (central differences): {said}{others}."


def _background(results: Sequence[Results]) -> Iterator[str]:
    """Challenges that list label 0 average over the background too: nobody would guess."""
    means = {}
    for one in results:
        if any(0 in labels for labels in one.dice.values()):
            of_cases = [[dice for label, dice in labels.items() if label] for labels in one.dice.values()]
            known = [float(np.mean(dice)) for dice in of_cases if dice]
            if known:
                means[one.entry.name] = float(np.mean(known))
    if means:
        said = ", ".join(f"{name} {number(value)}" for name, value in means.items())
        yield f"The evaluation counts the background (label 0) as a label. Mean Dice without it: {said}."


def _not_run(missing: Sequence[Failure]) -> Iterator[str]:
    """One sentence per method: what is merely not done yet needs no row of its own."""
    found: dict[str, list[str]] = {}
    for one in missing:
        if one.outcome == NOT_RUN:
            found.setdefault(one.method, []).append(one.pair)
    for method, pairs in found.items():
        yield f"{method}: no job has ended yet of {count(len(pairs), 'pair')}: {', '.join(pairs)}."


def _sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:].rstrip('.')}."


def _colours(runs: Sequence[str]) -> Mapping[str, str]:
    from iterreg.report.figures.style import colours

    return colours(runs)


def _asset(name: str) -> str:
    return (files("iterreg.report") / "templates" / name).read_text(encoding="utf-8")


# -- figures ------------------------------------------------------------------------------------------


def _figures(comparison: Comparison) -> Iterator[dict[str, Any]]:
    from iterreg.report.figures import draw_all

    for drawn in draw_all(comparison):
        svg = drawn.encode("svg")
        width, height = _points(svg)
        yield {
            "title": drawn.title,
            "caption": drawn.caption,
            "alternative": drawn.alternative,
            "wide": drawn.wide,
            "measure": drawn.measure,
            "width": round(width * 4 / 3),
            "height": round(height * 4 / 3),
            "uri": "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii"),
        }


def _points(svg: bytes) -> tuple[float, float]:
    found = re.search(rb'<svg[^>]*?\bheight="([\d.]+)pt"[^>]*?\bwidth="([\d.]+)pt"|$', svg)
    if found is None or found[1] is None:
        found = re.search(rb'viewBox="[\d.]+ [\d.]+ (?P<w>[\d.]+) (?P<h>[\d.]+)"', svg)
        assert found is not None
        return float(found["w"]), float(found["h"])
    return float(found[2]), float(found[1])


# -- tables -------------------------------------------------------------------------------------------


def _comparisons(comparison: Comparison) -> Iterator[dict[str, Any]]:
    for measure in comparison.measures:
        tables = [
            table
            for table in (
                pairwise(comparison, measure),
                effects(comparison, measure),
                by_scope(comparison, measure, "task", "task"),
                by_scope(comparison, measure, "contrast", "contrast"),
                by_scope(comparison, measure, "group", "group of structures"),
            )
            if table is not None
        ]
        if tables:
            yield {"title": measure.title, "tables": tables}
    ranked = rankings(comparison)
    if ranked:
        yield {"title": "Rankings as the challenges make them", "tables": ranked}
    for measure in comparison.measures:
        structures = by_scope(comparison, measure, "label", "structure")
        if structures:
            yield {"title": f"{measure.title} by structure", "tables": [structures]}


def _by_pair(page: Page, pairs: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A table per compared measure, pairs by methods."""
    for measure in page.comparison.measures if page.comparison else ():
        table = by_pair(page.comparison, measure, page.results, pairs) if page.comparison else None
        if table is not None:
            yield {"title": measure.title, "table": table}


def _shown(comparison: Comparison | None) -> dict[str, str]:
    """The measures shown of a pair: name -> title, with the unit that the scores have."""
    if comparison is None:
        return {}
    compared = {measure.name: measure.title for measure in comparison.measures}
    return compared | {name: measure_named(name).title for name in _FURTHER if name not in compared}


def _section(section: PairSection, ranking: Ranking, titles: Mapping[str, str]) -> dict[str, Any]:
    worst = "no number" if math.isnan(section.worst) else f"worst {ranking.title} {number(section.worst)}"
    return {
        "key": section.key,
        "rank": section.rank,
        "name": section.pair.name if section.named else section.pair.case,
        "task": section.pair.task,
        "worst": worst,
        "failures": section.failures,
        "notes": section.notes,
        "before": section.before,
        "table": _pair_table(section, titles),
        "methods": [
            {
                "method": one.method,
                "numbers": _numbers(one, titles),
                "failure": one.failure,
                "note": one.note,
                "panels": one.panels,
            }
            for one in section.methods
        ],
    }


def _pair_table(section: PairSection, titles: Mapping[str, str]) -> TableView | None:
    columns = [name for name in titles if any(name in one.scores for one in section.methods)]
    if not columns:
        return None
    heads = ["method", *(titles[name] for name in columns)]
    rows = []
    for one in section.methods:
        cells = [Cell(one.method, run=one.method)]
        for name in columns:
            value = one.scores.get(name, math.nan)
            cells.append(Cell(number(value, 0 if name in _COUNTS else 4), value))
        rows.append(tuple(cells))
    pair = section.pair
    return TableView(f"Fixed {pair.fixed.subject}, moving {pair.moving.subject}", tuple(heads), tuple(rows))


def _numbers(one: MethodOnPair, titles: Mapping[str, str]) -> list[tuple[str, str]]:
    return [
        (title, number(one.scores[name], 0 if name in _COUNTS else 4))
        for name, title in titles.items()
        if name in one.scores
    ]


# -- provenance ---------------------------------------------------------------------------------------


def _method(result: Results, pairs: Sequence[str]) -> dict[str, Any]:
    entry = result.entry
    sidecar, request = entry.sidecar(pairs), entry.request
    facts = [text for text in (request.method, request.preset) if text] if request else []
    versions = sidecar.versions if sidecar else {}
    facts += [f"{name} {version}" for name, version in versions.items()]
    if result.storage.format:
        facts.append(f"fields read as {result.storage.format}")
    facts += [f"from {pattern}" for pattern in result.storage.patterns]
    statuses = [(pair, status) for pair in pairs if (status := entry.status(pair)) is not None]
    rows = [
        (
            Cell(pair),
            Cell(status.outcome),
            _measured(status.cpu_seconds),
            _measured(status.wall_seconds),
            _measured(status.peak_bytes, per=2**20),
            _measured(status.threads),
            Cell(status.host),
        )
        for pair, status in statuses
    ]
    heads = ("pair", "outcome", "CPU s", "wall s", "peak MiB", "threads", "host")
    table = None
    if rows:
        hosts = tuple(_hosts(entry, statuses))
        table = TableView("Jobs: time and memory", heads, tuple(rows), hosts, text_columns=(0, 1, 6))
    recorded: dict[str, Any] = {}
    if request is not None:
        recorded = {"parameters": request.values, "seed": request.seed, "masks": request.masks}
        recorded["notes"] = list(request.notes)
        recorded["kept"] = entry.kept(pairs)
    if sidecar is not None:
        recorded = {"parameters": sidecar.parameters, "seed": sidecar.status.seed} | recorded
        recorded["warnings"] = sidecar.details.get("warnings")
        recorded |= {"versions": versions, "machine": sidecar.machine, "command": sidecar.command}
    recorded = {key: value for key, value in recorded.items() if value not in (None, {}, [], "")}
    return {
        "name": entry.name,
        "facts": ", ".join(facts),
        "table": table,
        "parameters": _compact(recorded) if recorded else "",
    }


def _hosts(entry: MethodResults, statuses: Sequence[tuple[str, JobStatus]]) -> Iterator[str]:
    """What each host is, as the first sidecar of a job there says: times of different processors differ."""
    said: set[str] = set()
    for pair, status in statuses:
        sidecar = None if status.host in said else entry.sidecar([pair])
        if sidecar is None or not sidecar.machine.get("cpu"):
            continue
        said.add(status.host)
        machine = sidecar.machine
        cores = f", {count(machine['cores'], 'core')}" if isinstance(machine.get("cores"), int) else ""
        yield f"{status.host}: {machine['cpu']}{cores}, {machine.get('system', '')}.".replace(", .", ".")


def _compact(value: Any) -> str:
    """JSON with short lists on one line: a parameter file has hundreds of them."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return re.sub(r"\[\s+([^\[\]{}]{0,120}?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text)


def _measured(value: float | None, *, per: float = 1.0) -> Cell:
    if value is None:
        return Cell("–")
    found = value / per
    return Cell(f"{found:.0f}" if found >= 100 or found == int(found) else f"{found:.1f}", found)
