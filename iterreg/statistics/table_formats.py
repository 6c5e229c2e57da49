"""A table, and the forms it is written in: CSV with all digits, Markdown, LaTeX (booktabs), plain text."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from iterreg.statistics.intervals import Interval
from iterreg.statistics.paired import VAGUE

__all__ = [
    "VAGUE_MARK", "Cell", "Column", "Table", "counted", "interval", "number", "p_value", "text_cell",
    "to_csv", "to_latex", "to_markdown", "to_text", "vague",
]  # fmt: skip

Value = float | int | str


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes
    ----------
    title
        What is read.
    keys
        Names of its columns in CSV: one per value of a cell.
    numeric
        Whether it is set flush right.
    """

    title: str
    keys: tuple[str, ...]
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes
    ----------
    text
        What is read.
    values
        What CSV gets, with all digits; one per key of the column.
    bold
        The best of its kind.
    mark
        Set as a superscript: ``*`` for a significant difference, ``†`` for published numbers.
    """

    text: str
    values: tuple[Value, ...]
    bold: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    name
        Stem of its file names.
    title
        Its caption.
    notes
        What must be known to read it, one sentence each.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


# -- cells ----------------------------------------------------------------------------------------------


def text_cell(text: str, *, bold: bool = False, mark: str = "") -> Cell:
    """Words."""
    return Cell(text, (text,), bold, mark)


def counted(count: int) -> Cell:
    """A whole number."""
    return Cell(str(count), (count,))


def number(value: float, *, bold: bool = False, mark: str = "", signed: bool = False) -> Cell:
    """A measured number, to four digits."""
    return Cell(_digits(value, signed=signed), (value,), bold, mark)


VAGUE_MARK = "°"
"""Marks an effect size whose interval hardly says how large it is."""


def vague(size: Interval) -> bool:
    """Whether a standardised effect has an interval so wide that it says hardly more than a direction."""
    return size.known and size.high - size.low > VAGUE


def interval(found: Interval, *, bold: bool = False, mark: str = "", signed: bool = True) -> Cell:
    """An estimate with its interval, ``-0.0148 [-0.0191, -0.0092]``; three values in CSV."""
    text = _digits(found.estimate, signed=signed)
    if found.known:
        text += f" [{_digits(found.low, signed=signed)}, {_digits(found.high, signed=signed)}]"
    return Cell(text, (found.estimate, found.low, found.high), bold, mark)


def p_value(p: float, *, mark: str = "") -> Cell:
    """A p-value, to two digits."""
    if math.isnan(p):
        return Cell("–", (p,))
    text = "<0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}"
    return Cell(text, (p,), mark=mark)


def _digits(value: float, *, signed: bool = False) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    sign = "+" if signed else ""
    if value == 0:
        return "0"
    size = abs(value)
    if size < 5e-4:
        return f"{value:{sign}.1e}"
    places = 4 if size < 10 else 2 if size < 1000 else 0
    return f"{value:{sign}.{places}f}"


# -- forms ----------------------------------------------------------------------------------------------


def to_csv(table: Table) -> str:
    """Every value with all digits; no marks, no notes. An unknown number is an empty cell.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([_plain(key) for column in table.columns for key in column.keys])
    for row in table.rows:
        writer.writerow([_plain(value) for cell in row for value in cell.values])
    return stream.getvalue()


def _plain(value: Value) -> Value:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return "" if isinstance(value, float) and math.isnan(value) else value


_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_text(table: Table) -> str:
    """Columns aligned for a terminal; the best stands between asterisks' place: ``>`` before it."""
    lines = [[column.title for column in table.columns]]
    for row in table.rows:
        lines.append([f"{'>' if cell.bold else ''}{cell.text}{cell.mark}" for cell in row])
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.columns))]
    text = [
        "  ".join(
            word.rjust(width) if column.numeric else word.ljust(width)
            for word, width, column in zip(line, widths, table.columns, strict=True)
        ).rstrip()
        for line in lines
    ]
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(text)


def to_markdown(table: Table) -> str:
    """With a heading, and the notes below."""

    def line(words: Sequence[str]) -> str:
        return "| " + " | ".join(words) + " |"

    body = [line([_markdown(column.title) for column in table.columns])]
    body.append(line(["---:" if column.numeric else "---" for column in table.columns]))
    for row in table.rows:
        words = []
        for cell in row:
            text = _markdown(cell.text)
            words.append((f"**{text}**" if cell.bold else text) + _markdown(cell.mark))
        body.append(line(words))
    notes = [f"{_markdown(note)}" for note in table.notes]
    return "\n\n".join([f"## {_markdown(table.title)}", "\n".join(body), *notes]) + "\n"


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text).replace("\n", " ")


_WIDE = 7
"""A table of more columns is scaled to the width of the text."""


def to_latex(table: Table) -> str:
    """A ``table`` environment with booktabs' rules; names are escaped, minus signs are real ones."""
    columns = "".join("r" if column.numeric else "l" for column in table.columns)
    body = [_latex_row([_latex(column.title) for column in table.columns])]
    body.append(r"\midrule")
    for row in table.rows:
        words = []
        for cell in row:
            text = _latex(cell.text)
            text = rf"\textbf{{{text}}}" if cell.bold else text
            words.append(text + (rf"\textsuperscript{{{_latex(cell.mark)}}}" if cell.mark else ""))
        body.append(_latex_row(words))
    notes = "".join(f"\n\\par\\footnotesize {_latex(note)}" for note in table.notes)
    tabular = (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n" + "\n".join(body) + "\n\\bottomrule\n\\end{tabular}"
    )
    packages = "booktabs"
    if len(table.columns) > _WIDE:
        tabular = f"\\resizebox{{\\textwidth}}{{!}}{{%\n{tabular}}}"
        packages = "booktabs,graphicx"
    return (
        f"% needs \\usepackage{{{packages}}}\n"
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{_latex(table.title)}}}\n\\label{{tab:{_latex_key(table.name)}}}\n"
        f"{tabular}{notes}\n\\end{{table}}\n"
    )


def _latex_row(words: Sequence[str]) -> str:
    return " & ".join(words) + r" \\"


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "†": r"$\dagger$", "−": "$-$", "–": "--", "∞": r"$\infty$", "δ": r"$\delta$", "²": r"\textsuperscript{2}",
    "×": r"$\times$", "°": r"$^{\circ}$", "≤": r"$\leq$", "@": "@", "→": r"$\to$", "…": r"\ldots{}",
}  # fmt: skip


def _latex(text: str) -> str:
    # A row that begins with a bracket would be read as an argument of the line break before it.
    escaped = "".join(_LATEX.get(letter, letter) for letter in text.replace("\n", " "))
    escaped = re.sub(r"(\d\.\d)e-0*(\d+)", r"$\1\\cdot10^{-\2}$", escaped)
    escaped = re.sub(r"(?<![\w.{])-(?=[\d$])", "$-$", escaped)
    return "{}" + escaped if escaped.startswith(("[", "*")) else escaped


def _latex_key(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9:-]", "-", name)
