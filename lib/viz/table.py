"""A table of results as text, CSV, LaTeX (booktabs) and JSON; `assets/parts.html` shows it in HTML."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

Cell = str | float | int | None

_NAMED = {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
_LATEX = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {c: f"${c}$" for c in "<>"} | _NAMED)


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        title: Heading.
        digits: Decimals of its numbers.
        best: Mark its largest number (in a table `by_row`: it takes part in the comparison within each row).
        signed: Show the sign of positive numbers.
        cited: Published numbers, shown in brackets.
        smallest: Smaller positive numbers are shown as "< smallest" (p-values).
        note: A longer name.
    """

    title: str
    digits: int = 1
    best: bool = False
    signed: bool = False
    cited: bool = False
    smallest: float = 0.0
    note: str = ""

    def show(self, value: Cell) -> str:
        """Format a value as the table prints it.

        Args:
            value: None and NaN are a dash.
        """
        if is_missing(value):
            return "-"
        if not isinstance(value, float):
            return str(value)
        if 0 <= value < self.smallest:
            return f"< {self.smallest:.{self.digits}f}"
        text = f"{value:+.{self.digits}f}" if self.signed else f"{value:.{self.digits}f}"
        return f"({text})" if self.cited else text


def is_missing(value: Cell) -> bool:
    """True for None and NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells below columns.

    Attributes:
        title: Heading; may be empty.
        columns: Of every row.
        rows: One cell per column; percentages are numbers in percent.
        by_row: The best number of each row is marked in place of the best of each column; the trackers are columns.
        faint: Rows that rest on too little to be compared, which are shown in grey.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    by_row: bool = False
    faint: frozenset[int] = frozenset()

    def best(self) -> list[set[int]]:
        """For each column the rows whose number is marked: the largest, as printed, of two or more."""
        found: list[set[int]] = [set() for _ in self.columns]
        compared = [j for j, column in enumerate(self.columns) if column.best]
        cells = [[(i, j) for i in range(len(self.rows))] for j in compared]
        for group in zip(*cells, strict=True) if self.by_row else cells:
            numbers = [v for i, j in group if isinstance(v := self.rows[i][j], (int, float)) and not is_missing(v)]
            for i, j in group if len(numbers) > 1 else ():
                show = self.columns[j].show
                if show(self.rows[i][j]) == show(max(numbers)):
                    found[j].add(i)
        return found

    def is_numeric(self, j: int) -> bool:
        """True where a row has a number in column `j`."""
        return any(isinstance(row[j], (int, float)) for row in self.rows)

    def text(self, bold: bool = False) -> str:
        """Aligned plain text; the best carry a star.

        Args:
            bold: They are bold too, by the terminal's escape codes.
        """
        padded = []
        for j, (column, best) in enumerate(zip(self.columns, self.best(), strict=True)):
            cells = [column.show(row[j]) + ("*" if i in best else " ") for i, row in enumerate(self.rows)]
            cells = [column.title + " ", *cells]
            width, is_text = max(map(len, cells)), all(isinstance(row[j], str) for row in self.rows)
            cells = [cell.ljust(width) if is_text else cell.rjust(width) for cell in cells]
            for i in best if bold else ():
                cells[i + 1] = f"\x1b[1m{cells[i + 1]}\x1b[0m"
            padded.append(cells)
        lines = ["  ".join(line) for line in zip(*padded, strict=True)]
        title = [self.title] if self.title else []
        return "\n".join([*title, lines[0].rstrip(), "-" * len(lines[0]), *(line.rstrip() for line in lines[1:])])

    def csv(self) -> str:
        """Full precision, comma separated, one header line."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([c.title for c in self.columns])
        writer.writerows([["" if is_missing(v) else v for v in row] for row in self.rows])
        return out.getvalue()

    def latex(self) -> str:
        """A booktabs tabular; the best are bold."""
        best = self.best()
        lines = [rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}", r"\toprule"]
        lines.append(" & ".join(c.title.translate(_LATEX) for c in self.columns) + r" \\")
        lines.append(r"\midrule")
        for i, row in enumerate(self.rows):
            cells = [c.show(v).translate(_LATEX) for c, v in zip(self.columns, row, strict=True)]
            cells = [rf"\textbf{{{t}}}" if i in best[j] else t for j, t in enumerate(cells)]
            lines.append(" & ".join(cells) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    def json(self) -> str:
        """A list of objects, one per row, full precision."""
        titles = [column.title for column in self.columns]
        cells = ([None if is_missing(value) else value for value in row] for row in self.rows)
        rows = [dict(zip(titles, row, strict=True)) for row in cells]
        return json.dumps({"title": self.title, "rows": rows}, indent=1) + "\n"
