"""A table of results, and what it is written as: text, CSV, LaTeX (booktabs), JSON. `lib.viz.page` shows it in HTML."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

Cell = str | float | int | None

_LATEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
    }
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column. digits: decimals of its numbers. best: whether its largest number is marked. note: a longer name."""

    title: str
    digits: int = 1
    best: bool = False
    signed: bool = False
    note: str = ""

    def show(self, value: Cell) -> str:
        """The value as the table prints it; None and NaN are a dash."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return "-"
        if isinstance(value, float):
            return f"{value:+.{self.digits}f}" if self.signed else f"{value:.{self.digits}f}"
        return str(value)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells below columns; percentages are numbers in percent."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]

    def best(self) -> list[set[int]]:
        """For each column the rows that hold its largest number, as printed; empty for columns without a best."""
        found: list[set[int]] = []
        for j, column in enumerate(self.columns):
            shown = [column.show(row[j]) for row in self.rows]
            numbers = [row[j] for row in self.rows if isinstance(row[j], (int, float)) and column.show(row[j]) != "-"]
            if not column.best or len(numbers) < 2:
                found.append(set())
                continue
            top = column.show(max(n for n in numbers if isinstance(n, (int, float))))
            found.append({i for i, text in enumerate(shown) if text == top})
        return found

    def text(self) -> str:
        """Aligned plain text for a terminal; the best of a column carries a star."""
        best = self.best()
        shown = [
            [c.show(v) + ("*" if i in best[j] else " ") for j, (c, v) in enumerate(zip(self.columns, row, strict=True))]
            for i, row in enumerate(self.rows)
        ]
        heads = [c.title + " " for c in self.columns]
        widths = [max(len(line[j]) for line in [heads, *shown]) for j in range(len(heads))]
        words = [all(isinstance(row[j], str) for row in self.rows) for j in range(len(heads))]
        lines = [
            "  ".join(v.ljust(w) if word else v.rjust(w) for v, w, word in zip(line, widths, words, strict=True))
            for line in [heads, *shown]
        ]
        title = [self.title] if self.title else []
        return "\n".join([*title, lines[0].rstrip(), "-" * len(lines[0]), *(line.rstrip() for line in lines[1:])])

    def csv(self) -> str:
        """Full precision, comma separated, one header line."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([c.title for c in self.columns])
        writer.writerows([["" if self._empty(v) else v for v in row] for row in self.rows])
        return out.getvalue()

    def latex(self) -> str:
        """A booktabs tabular; the best of a column is bold."""
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
        rows = [
            {c.title: None if self._empty(v) else v for c, v in zip(self.columns, row, strict=True)}
            for row in self.rows
        ]
        return json.dumps({"title": self.title, "rows": rows}, indent=1) + "\n"

    @staticmethod
    def _empty(value: Cell) -> bool:
        return value is None or (isinstance(value, float) and math.isnan(value))
