"""Scores a folder of fields: pairs in parallel, each in a child of its own, and none of them twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from iterreg import __version__
from iterreg.dataset.base import Dataset, Pair
from iterreg.errors import InputError
from iterreg.evaluation import work
from iterreg.evaluation.contents import nothing_usable
from iterreg.evaluation.fields import FoundField, find_field, find_reverse
from iterreg.evaluation.material import companions
from iterreg.evaluation.protocols import Measure
from iterreg.evaluation.protocols.config import measures_by_configs
from iterreg.evaluation.rules import Rules
from iterreg.evaluation.scoring import PairScores
from iterreg.io.challenge import field_name
from iterreg.jobs.hashing import FileDigests, digest
from iterreg.jobs.progress import Progress, format_seconds
from iterreg.jobs.resources import available_memory
from iterreg.runs import MethodResults
from iterreg.text_files import read_json
from iterreg.volume import read_grid

__all__ = ["PairRecord", "doubts", "evaluate_folder"]

_REVISION = 2
"""Raise it when a measure changes: scores of before are then not taken over."""

_SECONDS = 5.0
"""A first guess of what a pair takes; what is measured corrects it."""

_BYTES_PER_VOXEL = 90
_BYTES = 300 * 2**20
"""Measured: peak memory of a child with float32 fields."""


@dataclass(frozen=True)
class PairRecord:
    """How the evaluation of one pair ended.

    Attributes
    ----------
    pair
        The pair.
    measures
        What was asked for.
    field
        Its field file; None when there is none.
    scores
        None when it could not be scored.
    reason
        Why not; a sentence.
    note
        What the user should know of a scored field, for example that its name is not the official one.
    doubt
        Why the field is not the one that its run or its sidecar describes; empty when nothing says so.
    format
        The name of the format it was read as; empty when it was not read.
    files
        The names of all its files within the folder.
    """

    pair: Pair
    measures: tuple[Measure, ...]
    field: Path | None
    scores: PairScores | None
    reason: str = ""
    note: str = ""
    doubt: str = ""
    format: str = ""
    files: str = ""


@dataclass(frozen=True)
class _Done:
    """What the record of a pair says."""

    scores: PairScores
    format: str = ""
    said: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> _Done:
        return cls(PairScores.from_json(data), str(data.get("format", "")), tuple(data.get("said", ())))


@dataclass(frozen=True)
class _Job:
    pair: Pair
    measures: tuple[Measure, ...]
    found: FoundField
    record: Path
    key: str = ""
    payload: Mapping[str, Any] | None = None
    reason: str = ""
    note: str = ""
    doubt: str = ""
    kept: _Done | None = None


def evaluate_folder(
    method: MethodResults,
    dataset: Dataset,
    rules: Rules,
    out: Path,
    *,
    workers: int = 1,
    threads: int = 1,
    progress: Progress | None = None,
    on_work: Callable[[int], None] | None = None,
) -> list[PairRecord]:
    """Score the field of every pair.

    Parameters
    ----------
    method
        Whose fields they are. A field that its run made with other parameters is not scored, and one that is
        not what its run or its sidecar describes is named.
    out
        Where records are kept, in ``cases``; those whose key (files, measures, version) matches are not
        computed again.
    workers, threads
        Pairs at once, and threads for each. One worker works in this process.
    on_work
        Called with the number of pairs that are to be computed, when there are any.

    Returns
    -------
    One record per pair, in the data set's order; never raises for what a single pair does. Where an image of
    a pair is gone, its record of the same field is taken as it is, with a note.

    Raises
    ------
    InputError
        If the folder of fields does not exist, it is nobody's run and holds no field of any pair, or records
        cannot be written.
    """
    if method.fields is None or not (method.fields.is_dir() or method.run is not None):
        raise InputError(
            f"{method.fields or method.scores}: there is no such folder; "
            "give the folder that holds the disp_… files"
        )
    rules.storage.check(dataset)
    protocol, storage = rules.protocol, rules.storage
    shorts = Counter(pair.short_name for pair in dataset.pairs)
    # The short name that several pairs of the data set share means this one when it alone is scored.
    look = partial(find_field, method.fields, protocol=protocol, storage=storage)
    found = [look(pair, also=[pair.short_name] * (shorts[pair.short_name] == 1)) for pair in dataset.pairs]
    # Files by a name that several pairs share are the challenge's: what is wrong with them is said by pair.
    named = any(look(pair, also=[pair.short_name]).path for pair in dataset.pairs)
    if method.run is None and not named:
        raise InputError(nothing_usable(method.fields, dataset, found[0].note))
    cases = out / "cases"
    try:
        cases.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
    digests = FileDigests()
    digests.load(out / "digests.json")
    plan = partial(_plan, method=method, rules=rules, cases=cases, digests=digests)
    jobs = [plan(pair, one) for pair, one in zip(dataset.pairs, found, strict=True)]
    digests.save(out / "digests.json")
    known = {job.record: _read(job) for job in jobs}
    todo = [job for job in jobs if job.payload is not None and known[job.record] is None]
    reasons: dict[Path, str] = {}
    if todo:
        if on_work:
            on_work(len(todo))
        ended = _run(todo, out, workers=workers, threads=threads, progress=progress)
        reasons = {job.record: reason for job, reason in zip(todo, ended, strict=True)}
    records = []
    for job in jobs:
        reason = job.reason or reasons.get(job.record, "")
        done = None if reason else job.kept or known[job.record] or _read(job)
        if done is None and not reason:
            reason = f"{job.record}: its record could not be read back; run again"
        records.append(
            PairRecord(
                job.pair,
                job.measures,
                job.found.path,
                done.scores if done else None,
                reason,
                " | ".join(filter(None, [job.note, *(done.said if done else ())])),
                job.doubt,
                done.format if done else "",
                " ".join(path.relative_to(method.fields).as_posix() for path in job.found.files),
            )
        )
    return records


def doubts(method: MethodResults, dataset: Dataset) -> list[str]:
    """Which fields are not what their run or their sidecar describes, without scoring them; sentences."""
    digests = FileDigests()
    digests.load(method.scores / "digests.json")
    found = []
    for pair in dataset.pairs:
        path = (method.fields or method.scores) / field_name(pair.name)
        if path.is_file() and (doubt := method.doubt(pair.name, path, digests(path))) is not None:
            found.append(doubt.sentence)
    return found


def _plan(
    pair: Pair,
    found: FoundField,
    *,
    method: MethodResults,
    rules: Rules,
    cases: Path,
    digests: FileDigests,
) -> _Job:
    """What is to be done for a pair, with the key that proves it done."""
    assert method.fields is not None
    protocol = rules.protocol
    covered = [config for config in rules.configs if config.covers(pair)]
    measures = measures_by_configs(covered, pair) if covered else protocol.measures_of(pair)
    record = cases / f"{pair.long_name}.json"
    note, said = found.note, ""
    try:
        if found.path is None:
            raise InputError(found.note)
        field = digests(found.path)
        doubt = method.doubt(pair.name, found.path, field)
        if doubt is not None:
            if doubt.refused:
                raise InputError(doubt.sentence)
            said = doubt.sentence
        theirs = companions(pair, measures)
        gone = [path for path in (pair.fixed.path, pair.moving.path, *theirs) if not path.is_file()]
        if gone:
            kept = _kept(record, field)
            if kept is None:
                raise InputError(f"{gone[0]}: there is no such image; check the data set's root")
            note = " | ".join(
                filter(None, [note, f"{gone[0]}: is gone, so scores of before could not be checked"])
            )
            return _Job(pair, measures, found, record, note=note, doubt=said, kept=kept)
        reverse: tuple[Path, ...] = ()
        if rules.with_extras:
            reverse = find_reverse(method.fields, pair, protocol, storage=rules.storage)
        masked = any(config.masked for config in covered)
        files = [*found.files, *reverse, *theirs]
        key = digest(
            {
                "measures": [asdict(measure) for measure in measures],
                "protocol": protocol.name,
                "masked": masked,
                "extras": rules.with_extras,
                "files": [[path.name, digests(path)] for path in files],
                "iterreg": __version__,
                "revision": _REVISION,
            }
            | ({"format": rules.storage.format} if rules.storage.format else {})
        )
    except InputError as error:
        return _Job(pair, measures, found, record, reason=str(error))
    payload = work.pack(
        pair, found.files, reverse, measures, protocol.name,
        storage=rules.storage.format, masked=masked, with_extras=rules.with_extras,
        record=record, key=key, digest=field,
    )  # fmt: skip
    return _Job(pair, measures, found, record, key, payload, note=note, doubt=said)


def _kept(record: Path, field: str) -> _Done | None:
    """Scores of the very same field, by whatever rules they were made."""
    try:
        data = read_json(record)
        return _Done.of(data) if data["field"] == field else None
    except (InputError, ValueError, KeyError, TypeError):
        return None


def _read(job: _Job) -> _Done | None:
    """The scores on disk when they are this job's."""
    if not job.key:
        return None
    try:
        data = read_json(job.record)
        return _Done.of(data) if data["key"] == job.key else None
    except (InputError, ValueError, KeyError, TypeError):
        return None


def _run(
    jobs: Sequence[_Job], out: Path, *, workers: int, threads: int, progress: Progress | None
) -> list[str]:
    """Score every job; why each could not be scored, empty where it was."""
    own = progress is None
    progress = progress or Progress(len(jobs), parallel=workers, quiet=True)
    for job in jobs:
        progress.expect(job.pair.name, "score", _SECONDS)
    try:
        if workers == 1:
            return [_watched(job, _here, progress) for job in jobs]
        return _in_children(jobs, out, workers=workers, threads=threads, progress=progress)
    finally:
        if own:
            progress.close()


def _here(job: _Job) -> str:
    """Score in this process."""
    assert job.payload is not None
    try:
        work.work(job.payload)
    except InputError as error:
        return str(error)
    except MemoryError:
        return "there is not enough memory to score it; free some or use a larger machine"
    except OSError as error:
        return f"its record could not be written ({error}); free space, run again"
    return ""


def _in_children(
    jobs: Sequence[_Job], out: Path, *, workers: int, threads: int, progress: Progress
) -> list[str]:
    # One worker needs none of this, and a tenth of a pair's time would go into the imports.
    from iterreg.evaluation.children import Children
    from iterreg.jobs.threads import in_threads

    with Children(out / "log.txt", threads=threads) as children:

        def child(job: _Job) -> str:
            assert job.payload is not None
            return children.run(job.payload, expected_memory=expected_memory(job.pair))

        return in_threads(lambda job: _watched(job, child, progress), jobs, threads=workers)


def _watched(job: _Job, do: Callable[[_Job], str], progress: Progress) -> str:
    name = job.pair.name
    progress.begin(name, "score")
    began = time.monotonic()
    reason = do(job)
    seconds = time.monotonic() - began
    line = f"not scored   {name}: {reason}" if reason else f"scored       {name}  {format_seconds(seconds)}"
    progress.end(name, "score", line, measured=seconds)
    return reason


def expected_memory(pair: Pair) -> int:
    """Bytes that scoring a pair will take at its peak, by the size of its grids."""
    voxels = max(read_grid(scan.path).size for scan in (pair.fixed, pair.moving))
    return _BYTES + _BYTES_PER_VOXEL * voxels


def workers_that_fit(dataset: Dataset, cores: int) -> int:
    """How many pairs may be scored at once with these cores and the memory that is free now."""
    sizes = [expected_memory(pair) for pair in dataset.pairs[:1] if pair.fixed.path.is_file()]
    fitting = available_memory() // max(sizes, default=_BYTES)
    return max(1, min(cores, len(dataset.pairs), int(fitting)))
