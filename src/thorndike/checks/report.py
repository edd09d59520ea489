"""What was asked of something, and what was found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from thorndike.errors import ThorndikeError


@dataclasses.dataclass(frozen=True)
class Line:
    """One question: whether it holds, and what there is to say."""

    question: str
    ok: bool
    said: str = ""


@dataclasses.dataclass(repr=False)
class Report:
    """The answers to all questions; prints itself."""

    name: str
    lines: list[Line] = dataclasses.field(default_factory=list)
    advice: list[str] = dataclasses.field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything holds."""
        return all(line.ok for line in self.lines)

    def ask(self, question: str, answer: Callable[[], str | None]) -> bool:
        """Ask one question; `answer` gives None where it holds, or says what is wrong, or raises."""
        try:
            said = answer()
        except ThorndikeError as error:
            said = str(error)
        except Exception as error:  # whatever code of one's own does
            said = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        self.lines.append(Line(question, said is None, said or ""))
        return said is None

    def __repr__(self) -> str:
        lines = [f"  ok  {x.question}" if x.ok else f"  NO  {x.question}: {x.said}" for x in self.lines]
        hints = [f"  hint: {text}" for text in self.advice]
        wrong = sum(not x.ok for x in self.lines)
        verdict = f"{wrong} of {len(self.lines)} do not hold" if wrong else "all holds"
        return "\n".join([f"{self.name}: {verdict}", *lines, *hints])

    __str__ = __repr__
