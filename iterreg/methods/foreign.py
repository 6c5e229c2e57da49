"""Methods of other packages, held to the protocol.

iterreg plans with what a method says of its parameters and its cost, and hands on the sentences it raises.
Here whatever is not as `iterreg.methods.base.Method` says becomes one sentence that names the method and its
package, before any work starts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from iterreg.errors import EngineError, InputError, IterregError
from iterreg.methods.base import Cost, Method, Parameters, Registration, Task
from iterreg.volume import Grid

__all__ = ["Foreign", "said"]

_LONGEST = 500


class Foreign:
    """Another package's method; see `iterreg.methods.base.Method`.

    Parameters
    ----------
    name, origin
        Its entry point: what users call it, and the object it stands for.

    Raises
    ------
    InputError
        If its distributions are not installed, or its environment cannot be set.
    """

    def __init__(self, method: Method, name: str, origin: str) -> None:
        self._method = method
        self._who = f"the method {name!r} ({origin})"
        self.name = name
        self.distributions: tuple[str, ...] = self._distributions()
        self.saves_momentum = bool(getattr(method, "saves_momentum", False))
        self.environment(1)  # rather now than when its engine is started

    def parameters(self, source: str | None) -> Parameters:
        """As the method resolves them.

        Raises
        ------
        InputError
            Its own, or if it fails otherwise, or gives what is no `Parameters` or not JSON-serialisable.
        """
        answer = self._asked("parameters", source)
        if not (isinstance(answer, Parameters) and isinstance(answer.preset, str)):
            raise self._broken(f"parameters() gives {answer!r:.80}, not Parameters with a preset's name")
        try:
            json.dumps(dict(answer.values))
        except (TypeError, ValueError) as error:
            raise self._broken(f"its parameters' values cannot be written as JSON ({said(error)})") from error
        return answer

    def cost(self, parameters: Parameters, fixed: Grid, moving: Grid) -> Cost:
        """As the method estimates it.

        Raises
        ------
        InputError
            If it fails, or gives what is no `Cost` of finite numbers that are not negative.
        """
        answer = self._asked("cost", parameters, fixed, moving)
        if not (isinstance(answer, Cost) and _amount(answer.memory) and _amount(answer.cpu_seconds)):
            raise self._broken(
                f"cost() gives {answer!r:.80}, not a Cost of bytes and seconds, finite and not negative"
            )
        return Cost(memory=int(answer.memory), cpu_seconds=float(answer.cpu_seconds))

    def identity(self, parameters: Parameters) -> dict[str, str | int | float]:
        """As the method says it; empty where it says nothing. See `iterreg.methods.base.identity`.

        Raises
        ------
        InputError
            If it fails, or gives what is no mapping of names to texts and finite numbers.
        """
        if not hasattr(self._method, "identity"):
            return {}
        answer = self._asked("identity", parameters)
        if not isinstance(answer, Mapping):
            raise self._broken(f"identity() gives {answer!r:.80}, not a mapping of names to texts or numbers")
        for key, value in answer.items():
            if not (isinstance(key, str) and key.strip() and _writable(key) and _plain(value)):
                raise self._broken(
                    f"identity() says {value!r:.40} of {key!r:.40}, not a text or finite number of a name"
                )
        return dict(answer)

    def refusal(self, parameters: Parameters, fixed: Grid, moving: Grid) -> str:
        """As the method says it; empty where it says nothing. See `iterreg.methods.base.refusal`.

        Raises
        ------
        InputError
            If it fails, or gives what is no text.
        """
        if not hasattr(self._method, "refusal"):
            return ""
        answer = self._asked("refusal", parameters, fixed, moving) or ""
        if not isinstance(answer, str):
            raise self._broken(f"refusal() gives {answer!r:.80}, not a sentence")
        return _line(answer)

    def environment(self, threads: int) -> Mapping[str, str]:
        """As the method wants it.

        Raises
        ------
        InputError
            If it fails, or gives what cannot be set as environment variables.
        """
        answer = self._asked("environment", threads)
        if not isinstance(answer, Mapping):
            raise self._broken(f"environment() gives {answer!r:.80}, not a mapping of names to texts")
        for key, value in answer.items():
            texts = isinstance(key, str) and isinstance(value, str)
            if not texts or not key or "=" in key or "\0" in key + value or not _writable(key + value):
                raise self._broken(
                    f"environment() sets {key!r:.40} to {value!r:.40}, which no process can be given"
                )
        return dict(answer)

    def warm(self) -> None:
        """Import its engine."""
        self._method.warm()

    def register(self, task: Task, parameters: Parameters) -> Registration:
        """Register one pair.

        Raises
        ------
        InputError, EngineError
            Its own, as one printable line.
        """
        try:
            return self._method.register(task, parameters)
        except IterregError as error:
            raise (InputError if isinstance(error, InputError) else EngineError)(said(error)) from error

    def _asked(self, what: str, *arguments: Any) -> Any:
        try:
            return getattr(self._method, what)(*arguments)
        except InputError as error:
            raise InputError(said(error)) from error
        except Exception as error:
            raise self._broken(f"{what}() fails ({type(error).__name__}: {said(error)})") from error

    def _distributions(self) -> tuple[str, ...]:
        from importlib.metadata import PackageNotFoundError, version

        names = self._method.distributions
        if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
            raise self._broken(f"its distributions are {names!r:.80}, not a tuple of names")
        for name in names:
            try:
                version(name)
            except (PackageNotFoundError, ValueError) as error:
                raise self._broken(f"it needs the package {name!r:.80}, which is not installed") from error
        return tuple(names)

    def _broken(self, why: str) -> InputError:
        return InputError(f"{self._who} cannot be used: {why}; tell its authors, or uninstall it")


def said(error: BaseException) -> str:
    """What an error of others' code says, as one printable line."""
    try:
        text = str(error)
    except Exception:  # that can fail as well
        text = ""
    return _line(text) or type(error).__name__


def _line(text: str) -> str:
    line = " ".join(text.split())
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line[:_LONGEST])
    return printable if len(line) <= _LONGEST else f"{printable} …"


def _amount(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0  # type: ignore[arg-type, operator]


def _plain(value: object) -> bool:
    if isinstance(value, str):
        return _writable(value)
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _writable(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
