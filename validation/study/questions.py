"""What raters are asked: the words, the answers and what they are called, in the order shown.

The viewer, the protocol's page, Label Studio and REDCap take all of it from here, because their answers are pooled. A rater
sees two images beside the one that was scanned and is told of neither what it is, so the words call both of them images. What
a rating keeps (``value``) and what REDCap keeps (``code``) stay as they are whatever the words become.
"""

from __future__ import annotations

from dataclasses import dataclass

from srh_clinic.validation.study.records import CATEGORIES, SEVERITIES, Kind, Question

QUESTIONS: dict[Kind, tuple[Question, ...]] = {
    "preference": ("pref_quality", "pref_fidelity", "confidence", "halluc_A", "halluc_B", "method_guess"),
    "review": ("halluc_A", "confidence"),
}
"""What is asked, in this order."""


@dataclass(frozen=True)
class Choice:
    """An answer that can be given: as a rating keeps it, as a rater reads it, and the number that REDCap keeps for it."""

    value: str | int
    label: str
    code: int


@dataclass(frozen=True)
class Wording:
    """A question as raters read it, what is meant by it, and its answers in the order shown."""

    text: str
    choices: tuple[Choice, ...]
    meant: str = ""

    @property
    def values(self) -> tuple[str, ...]:
        """The answers as ratings keep them, as text, in the order of their codes."""
        return tuple(str(choice.value) for choice in sorted(self.choices, key=lambda choice: choice.code))

    def code_of(self, value: str | int) -> int:
        """The code that goes with a value."""
        return next(choice.code for choice in self.choices if choice.value == value)

    def value_of(self, said: str) -> str:
        """The value that goes with a label; anything else is handed back."""
        return next((str(choice.value) for choice in self.choices if choice.label == said), said)


AS_SCANNED = "As scanned"
"""What raters call the image that the others are compared with."""

NO_DIFFERENCE = "no difference"

PREFERRED = (Choice("A", "A", 1), Choice("tie", NO_DIFFERENCE, 3), Choice("B", "B", 2))
SUPPORTED = (Choice("none", "no", 1), Choice("possible", "possibly", 2), Choice("definite", "definitely", 3))

WORDING: dict[Question, Wording] = {
    "pref_quality": Wording(
        "Which image has the better quality?",
        PREFERRED,
        f"The one that you would rather read; “{NO_DIFFERENCE}” when you see none that matters.",
    ),
    "pref_fidelity": Wording(
        "Which image is more faithful to the image as scanned?",
        PREFERRED,
        "The one that keeps closer to what was scanned; it need not be the one of better quality.",
    ),
    "confidence": Wording(
        "How sure are you, from 1 (a guess) to 5 (certain)?",
        tuple(Choice(number, str(number), number) for number in range(1, 6)),
    ),
    "halluc_A": Wording(
        "Does A show structure that the image as scanned does not support?",
        SUPPORTED,
        "An added or a removed nucleus, changed morphology, invented texture. Mark what you find with a box or a point.",
    ),
    "halluc_B": Wording("Does B show structure that the image as scanned does not support?", SUPPORTED),
    "method_guess": Wording(
        "Which image do you think comes from the method under test?",
        (Choice("A", "A", 1), Choice("unsure", "unsure", 3), Choice("B", "B", 2)),
        "This measures the blinding, not you.",
    ),
}
"""Of each question of a task; :func:`wording` has how each kind of study asks."""

IN_REVIEW: dict[Question, Wording] = {
    "halluc_A": Wording(
        "Does A show structure inside the orange frame that the image as scanned does not support?",
        SUPPORTED,
        WORDING["halluc_A"].meant,
    ),
}
"""Of questions that a review asks in other words: it asks of its frame."""


def wording(kind: Kind, question: Question) -> Wording:
    """How a question is put in a kind of study."""
    return IN_REVIEW.get(question, WORDING[question]) if kind == "review" else WORDING[question]


MARK_WORDING: dict[str, Wording] = {
    "category": Wording("What is it?", tuple(Choice(name, name, code) for code, name in enumerate(CATEGORIES, start=1))),
    "severity": Wording("How severe is it?", tuple(Choice(name, name, code) for code, name in enumerate(SEVERITIES, start=1))),
}
"""Of each question about a region that a rater marked."""
