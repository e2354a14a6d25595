"""Plain tables: what was measured beside what was promised, and a verdict."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One line. `is_kept` is the verdict on its budget, None where nothing was promised."""

    cells: list[str]
    is_kept: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    title: str
    heads: list[str]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """The first cell of every row over its budget."""
        return [row.cells[0] for row in self.rows if row.is_kept is False]

    def text(self) -> str:
        """The table in the form Markdown and people read alike."""
        verdicts = {True: "kept", False: "BROKEN", None: ""}
        lines = [[*self.heads, "verdict", "note"]]
        lines += [[*row.cells, verdicts[row.is_kept], row.note] for row in self.rows]
        used = [place for place in range(len(lines[0])) if any(line[place] for line in lines[1:])]
        widths = {place: max(_width(line[place]) for line in lines) for place in used}
        shown = [
            "| " + " | ".join(line[at] + " " * (widths[at] - _width(line[at])) for at in used) + " |" for line in lines
        ]
        rule = "|" + "|".join("-" * (widths[place] + 2) for place in used) + "|"
        return "\n".join(
            [f"## {self.title}", "", shown[0], rule, *shown[1:], *(f"\n{note}" for note in self.notes), ""]
        )


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)
