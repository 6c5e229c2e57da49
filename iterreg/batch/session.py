"""Planning and running from Python: what the commands do, without their words."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from iterreg.batch.arms import Arm, parse_arm
from iterreg.batch.executors import Executor, LocalExecutor
from iterreg.batch.plan import Plan, Settings, make_plan
from iterreg.batch.records import record_request, write_results
from iterreg.batch.running import Summary, run_plan
from iterreg.batch.scratch import check_scratch
from iterreg.batch.shared import leave_plan, take_plan
from iterreg.batch.stopping import NOTICES, SIGNALS, stoppable
from iterreg.batch.telling import Teller
from iterreg.dataset import Dataset
from iterreg.errors import InputError
from iterreg.jobs.hashing import FileDigests
from iterreg.jobs.progress import Progress
from iterreg.runs import OpenedResults, RunFolder, open_results

__all__ = ["Session"]


class Session:
    """Works on one run folder, with one plan after another; engines that are warm stay so until it is closed.

    ::

        with Session("runs/oasis", Settings(cores=8)) as session:
            plan = session.plan(open_dataset("OASIS_dataset.json"), ["syn:cheap", "lddmm:fast"])
            session.run(plan)
            results = session.results()

    Parameters
    ----------
    out
        The run folder; one that an earlier session filled is gone on with.
    settings
        How its plans are run.
    executor
        Where the jobs run; it is not closed with the session, so that several can share its warm engines.
        None for this machine, within the settings' budgets.

    Raises
    ------
    InputError
        If `out` cannot be a run folder. Nothing is written before `run`.
    """

    def __init__(
        self, out: str | Path, settings: Settings | None = None, *, executor: Executor | None = None
    ) -> None:
        self.folder = RunFolder(out)
        self.folder.check()
        self.settings = settings or Settings()
        self._digests = FileDigests()
        self._digests.load(self.folder.digests)
        self._given = executor
        self._own: Executor | None = None

    def plan(self, dataset: Dataset, methods: Sequence[str | Arm]) -> Plan:
        """Say what is to be done: every pair with every method.

        Parameters
        ----------
        methods
            ``method``, ``method:preset`` or ``method:file``, as ``iterreg run --method`` takes them.

        Raises
        ------
        InputError
            If there is no such method, preset or file; if the scratch folder cannot be used; and as
            `iterreg.batch.plan.make_plan`.
        """
        check_scratch(self.settings.scratch)
        arms = [parse_arm(one) if isinstance(one, str) else one for one in methods]
        return make_plan(dataset, arms, self.folder, self.settings, digests=self._digests)

    def run(self, plan: Plan, *, quiet: bool = False, wait: bool = False) -> Summary:
        """Record what was asked, run what is left of it, and write ``results.csv``.

        Never raises for what a job does: its end is in its status. Ctrl-C and SIGTERM end the jobs at once
        and leave a folder that the same plan resumes.

        Parameters
        ----------
        quiet
            Tell nothing on the terminal.
        wait
            Wait for jobs that other processes hold, and do them should those processes end.

        Raises
        ------
        InputError
            If the run folder cannot be written, or no scratch folder can be made.
        """
        record_request(plan, self.folder, command=shlex.join(sys.argv))
        with self._telling(plan, quiet=quiet) as tell:
            summary = self._run(plan, tell, wait=wait)
            try:
                write_results(self.folder)
            except (OSError, InputError) as error:
                tell.no_results(self.folder.results, error)
                summary = replace(summary, failed=summary.failed + 1)
        self._keep_digests()
        return summary

    def leave(self, plan: Plan) -> None:
        """Record what was asked and leave the plan in the run folder, for the workers that do it (`work`).

        Raises
        ------
        InputError
            If the run folder cannot be written.
        """
        record_request(plan, self.folder, command=shlex.join(sys.argv))
        try:
            leave_plan(plan, self.folder)
        except OSError as error:
            raise InputError(
                f"{self.folder.plan}: cannot be written ({error.strerror}); free space"
            ) from error
        refused = replace(plan, jobs=plan.in_state("refused"))
        with self._telling(refused, quiet=True) as tell:
            self._run(refused, tell)
        self._keep_digests()

    def work(
        self, *, wait: bool = False, until: float | None = None, quiet: bool = False
    ) -> tuple[Plan, Summary]:
        """Help with the plan that was left in the run folder, side by side with other processes and hosts.

        Nothing is checked or hashed again. SIGTERM, SIGUSR1 and SIGUSR2 end the jobs at once and give
        them back; what needs more memory than there is here is left to others.

        Parameters
        ----------
        wait
            As for `run`.
        until
            Begin nothing that will not have ended by then, in seconds since 1970.

        Returns
        -------
        The plan as it was left, and how it stands when nothing is left to do here.

        Raises
        ------
        InputError
            If there is no plan, or it was made with other versions of a method than are installed here.
        """
        check_scratch(self.settings.scratch)
        plan = take_plan(self.folder, self.settings)
        with self._telling(plan, quiet=quiet, others=False) as tell:
            summary = self._run(plan, tell, wait=wait, until=until, signals=(*SIGNALS, *NOTICES))
        if not summary.elsewhere and not summary.left:  # the last one has seen all
            with suppress(OSError, InputError):
                write_results(self.folder)
        return plan, summary

    @contextmanager
    def _telling(self, plan: Plan, *, quiet: bool, others: bool = True) -> Iterator[Teller]:
        progress = Progress(len(plan.todo), parallel=plan.parallel, quiet=quiet)
        try:
            yield Teller(progress, others=others)
        finally:
            progress.close()

    def _run(
        self,
        plan: Plan,
        tell: Teller,
        *,
        wait: bool = False,
        until: float | None = None,
        signals: Sequence[signal.Signals] = SIGNALS,
    ) -> Summary:
        with stoppable(signals) as stop:
            try:
                return run_plan(
                    plan,
                    self._executor(plan),
                    digests=self._digests,
                    tell=tell,
                    stop=stop,
                    wait=wait,
                    until=until,
                )
            finally:
                if stop.is_set():  # nobody knows how long the caller takes to close it
                    self.close()

    def _keep_digests(self) -> None:
        with suppress(OSError), self.folder.lock():  # only saves the next run some reading
            self._digests.save(self.folder.digests)

    def results(self) -> OpenedResults:
        """What the run folder holds, by method.

        Raises
        ------
        InputError
            If nothing was run in it yet.
        """
        return open_results(self.folder.path)

    def close(self) -> None:
        """End the warm engines and remove what is temporary."""
        own, self._own = self._own, None
        if own is not None:
            with stoppable():  # a second Ctrl-C must leave no engine behind
                own.close()

    def _executor(self, plan: Plan) -> Executor:
        if self._given is not None:
            return self._given
        if self._own is None:
            settings = plan.settings
            self._own = LocalExecutor(
                cores=settings.cores,
                memory=settings.memory,
                scratch=settings.scratch,
                logs=self.folder.logs,
            )
        return self._own

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
