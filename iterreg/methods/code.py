"""Digests of iterreg's own source: by which code a result was made.

What counts is what Python makes of the files, without docstrings: a comment, a line break or a reworded
docstring undoes no night of work. Nothing is imported for it and no path is part of it, so that the digest is
the same in a checkout and in an installed wheel, in every process and on every machine.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

__all__ = ["code_digest", "modules", "shared_digest"]

_SHARED = ("iterreg.volume", "iterreg.io.challenge")
"""With what they import: how images are read, and fields inverted, written and read again."""

_SHAPES_NOTHING = (
    "iterreg.errors",
    "iterreg.jobs",
    "iterreg.kernels.first_use",
    "iterreg.methods.base",
    "iterreg.methods.code",
    "iterreg.methods.elastix_log",
    "iterreg.methods.presets",
    "iterreg.methods.usable",
    "iterreg.paths",
    "iterreg.text_files",
    "iterreg.toml_parameters",
    "iterreg.words",
)
"""Modules and packages that look, refuse and tell: they may end a job, but move no voxel of its result. The
values that a parameter file is read into are held in a job's hash as they are."""


@cache
def code_digest(*roots: str) -> str:
    """Digest of the code that shapes what some modules make, beside what `shared_digest` covers.

    Parameters
    ----------
    roots
        Names of modules, and of packages with all below them. With them counts whatever of iterreg they
        import, at the top or in a function, unless it shapes nothing.

    Returns
    -------
    The first 16 hexadecimal digits of a SHA-256.
    """
    return _digest(modules(*roots) - modules(*_SHARED))


@cache
def shared_digest() -> str:
    """Digest of the code that every method's results pass through: that of images and fields."""
    return _digest(modules(*_SHARED))


@cache
def modules(*roots: str) -> frozenset[str]:
    """The modules that shape what `roots` make (see `code_digest`), roots included."""
    found: set[str] = set()
    left = [name for root in roots for name in (root, *_below(root))]
    while left:
        name = left.pop()
        if name not in found and not _shapes_nothing(name):
            found.add(name)
            left += _imports(_tree(name))
    return frozenset(found)


def _shapes_nothing(name: str) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in _SHAPES_NOTHING)


def _digest(names: frozenset[str]) -> str:
    value = hashlib.sha256()
    for name in sorted(names):
        words: list[str] = [name]
        _spell(_tree(name), words)
        value.update("\n".join(words).encode())
    return value.hexdigest()[:16]


# -- modules and their files --------------------------------------------------------------------------


@cache
def _tree(name: str) -> ast.Module:
    path = _file(name)
    assert path is not None, f"{name} is no module of iterreg"
    return ast.parse(path.read_bytes())


@cache
def _file(name: str) -> Path | None:
    """The source of a module of iterreg; None when there is no such module."""
    place = _place(name)
    candidates = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((path for path in candidates if path.is_file()), None)


def _place(name: str) -> Path:
    return Path(str(files("iterreg"))).joinpath(*name.split(".")[1:])


def _below(package: str) -> Iterator[str]:
    """The modules of a package, and of those inside it."""
    place = _place(package)
    for path in place.rglob("*.py"):
        parts = path.relative_to(place).with_suffix("").parts
        yield ".".join((package, *(part for part in parts if part != "__init__")))


def _imports(tree: ast.Module) -> Iterator[str]:
    """Names of iterreg's modules that are imported anywhere in a module, but for its annotations alone."""
    left: list[ast.AST] = [tree]
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if _is_ours(one.name))
        elif isinstance(node, ast.ImportFrom) and node.module and _is_ours(node.module):
            for one in node.names:
                inner = f"{node.module}.{one.name}"
                yield inner if _file(inner) else node.module
        elif isinstance(node, ast.stmt | ast.Module | ast.excepthandler) and not _is_for_checkers(node):
            left += ast.iter_child_nodes(node)


def _is_ours(name: str) -> bool:
    return name.startswith("iterreg.")


# -- what counts of a module --------------------------------------------------------------------------


def _spell(node: ast.AST, words: list[str]) -> None:
    """A syntax tree as words, without places, docstrings, and fields that some versions of Python lack."""
    words.append(type(node).__name__)
    for name, value in ast.iter_fields(node):
        if value is None or value == []:
            continue
        words.append(name)
        for one in value if isinstance(value, list) else (value,):
            if not isinstance(one, ast.AST):
                words.append(repr(one))
            elif not (_is_docstring(one) or _is_for_checkers(one)):
                _spell(one, words)


def _is_docstring(node: ast.AST) -> bool:
    """Whether a statement is a text and nothing else, below a definition or an attribute."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _is_for_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
