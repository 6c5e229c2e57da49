"""How a command ends that cannot go on: a sentence, and an exit code."""

from __future__ import annotations

import errno
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from iterreg import __version__
from iterreg.errors import IterregError

__all__ = ["BUG", "INTERRUPTED", "REFUSED", "ending"]

REFUSED = 1
BUG = 70
"""As ``sysexits.h`` calls it: an internal error of the software."""
INTERRUPTED = 130

_ADVICE: Mapping[int, str] = {
    errno.ENOSPC: "free space, or write elsewhere",
    errno.EDQUOT: "free space, or write elsewhere",
    errno.EFBIG: "write elsewhere: this place does not take files of that size",
    errno.EROFS: "choose another place to write",
    errno.EACCES: "ask the owner for access, or choose another place",
    errno.EPERM: "ask the owner for access, or choose another place",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "shorten the name",
    errno.ELOOP: "its links lead in a circle, mend them",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "the machine has no open files left, close other programs",
    errno.ENOMEM: "free memory, or use a larger machine",
    errno.EIO: "the disk may be failing: copy the file, and look at the system's log",
    errno.ESTALE: "the network file system has lost it: try again",
}


def ending(error: BaseException) -> tuple[str, int]:
    """What to say and the exit code, when a command ends by an exception.

    What the user handed over, and what the machine lacks, is said in one sentence. Anything else is a mistake
    in iterreg: its traceback goes into a file, which the sentence names.
    """
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if isinstance(error, IterregError):
        return str(error), REFUSED
    if isinstance(error, MemoryError):
        what = f" ({error})" if str(error) else ""
        return f"there is not enough memory{what}; free some, or use a larger machine", REFUSED
    if isinstance(error, OSError) and error.errno is not None:
        names = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        advice = _ADVICE.get(error.errno, "check the path and the disk")
        return f"{f'{names}: ' if names else ''}{error.strerror}; {advice}", REFUSED
    return _bug(error), BUG


def _bug(error: BaseException) -> str:
    *_, last = traceback.extract_tb(error.__traceback__)
    summary = (
        f"this is a mistake in iterreg, not in what it was given ({type(error).__name__} in "
        f"{Path(last.filename).name}, line {last.lineno})"
    )
    text = "".join(
        [
            f"iterreg {__version__}, Python {platform.python_version()}, {platform.platform()}\n",
            f"{shlex.join(sys.argv)}\n\n",
            *traceback.format_exception(error),
        ]
    )
    with suppress(OSError):
        with tempfile.NamedTemporaryFile(
            "w",
            prefix="iterreg-bug-",
            suffix=".txt",
            delete=False,
            encoding="utf-8",
            errors="backslashreplace",
        ) as file:
            file.write(text)
        return f"{summary}; please report it, with {file.name}"
    return f"{summary}; please report it, with all of this:\n{text}"
