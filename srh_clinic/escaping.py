"""Words from files and names on their way out: a terminal, a CSV cell and a page each get them as text and as nothing else.

Everything that prints goes through :func:`terminal_text`, every CSV through :func:`csv_text`, every page through
:func:`page_text`, every part of another's page through :func:`fragment_text`.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

BLANKS = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
"""What starts a new line or moves along one."""

CONTROLS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
    r"\xad\u180e\u200b\u2060-\u2064\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""What a terminal obeys or reorders a line by (C0, C1, bidirectional marks), halves of characters that it cannot print, and
what nobody sees that makes two names look like one. The joiners of Persian and Indic words and of emoji are none of these."""

OBEYED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""What a terminal obeys and no text file needs: C0 but tabs and line ends, and C1; and halves of characters, which stand in
names of files that are no UTF-8, and which no text file can hold."""

_SIGNS = r"=+\-@\uff1d\uff0b\uff0d\uff20"
_UNSEEN = r"[\s\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u2060-\u2064\ufeff]*"

FORMULA = re.compile(rf"^{_UNSEEN}[{_SIGNS}]|^[\t\r\n]")
"""How a cell begins that a spreadsheet may compute, full-width forms too, behind whatever is not seen."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?%?", re.IGNORECASE)

_A_NUMBER = rf"{_UNSEEN}{NUMBER.pattern}\s*(?:[;\t\r\n]|$)"

FORMULA_WITHIN = re.compile(rf"(?<=[;\t\r\n\v\f\x85\u2028\u2029])(?={_UNSEEN}[{_SIGNS}])(?!{_A_NUMBER})", re.IGNORECASE)
"""Where a formula begins within a cell for a spreadsheet that separates cells by semicolons or tabs, as in much of Europe."""

MARK = '<meta charset="utf-8">'
"""After which a page's policy is written, so that it holds for everything that follows."""


def terminal_text(words: object) -> str:
    """Words on one line of a terminal: what it would obey is shown as an escape, what would start a line as a blank."""
    return CONTROLS.sub(_shown, BLANKS.sub(" ", str(words)))


def csv_cell(value: Any) -> Any:
    """A cell that no spreadsheet computes: an apostrophe stands before text that it would. Numbers stay numbers."""
    if not isinstance(value, str) or NUMBER.fullmatch(value):
        return value
    begins = FORMULA.match(value)
    known = begins.end() if begins else 0
    inner = value[:known] + FORMULA_WITHIN.sub("'", value[known:])
    return f"'{inner}" if begins else inner


def csv_text(rows: Iterable[Iterable[Any]], end: str = "\n") -> str:
    """Rows as CSV, each cell as of :func:`csv_cell`; what a terminal that shows the file would obey is shown as an escape."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=end).writerows([csv_cell(cell) for cell in row] for row in rows)
    return OBEYED.sub(_shown, buffer.getvalue())


PICTURES = "img-src data: blob:"
"""Lets pictures stand in a page."""


def page_text(folders: Sequence[Path], template: str, /, *, policy: Sequence[str] = (PICTURES,), **values: Any) -> str:
    """A page made of a template in one of the folders: values are shown as text, and only what the template owns may run.

    Control characters are shown as escapes. The page states a Content-Security-Policy: the styles and scripts that the
    template passes through the filter ``own``, as in ``<style>{{ style|own("style") }}</style>``, by their hashes, what
    ``policy`` adds, and nothing else from anywhere.

    Parameters
    ----------
    policy
        Further directives, for example ``connect-src 'self'`` for a page that asks the server it came from.
    values
        By their names in the template. One that it asks for and nobody gave is an error (``jinja2.UndefinedError``).

    Raises
    ------
    ValueError
        When the template does not state its character set in the usual words, after which the policy belongs.
    """
    from markupsafe import Markup

    owned: dict[str, dict[str, None]] = {"style": {}, "script": {}}

    def own(content: str, kind: str) -> Markup:
        owned[kind][f"'{csp_hash(str(content))}'"] = None
        return Markup(content)  # noqa: S704 - what a template owns is ours

    environment = _environment(folders)
    environment.filters["own"] = own
    page = OBEYED.sub(_shown, environment.get_template(template).render(values))
    before, found, after = page.partition(MARK)
    if not found:
        raise ValueError(f"found no {MARK} in {template}; needed it at the head of the page.")
    owns = [" ".join((f"{kind}-src", *hashes)) for kind, hashes in owned.items() if hashes]
    parts = ["default-src 'none'", *owns, *policy, "base-uri 'none'", "form-action 'none'"]
    return f'{before}{MARK}\n<meta http-equiv="Content-Security-Policy" content="{"; ".join(parts)}">{after}'


def fragment_text(folders: Sequence[Path], template: str, /, **values: Any) -> str:
    """A part of somebody else's page, such as a notebook's: values are shown as text. It owns no styles and no scripts."""
    return _environment(folders).get_template(template).render(values)


def _environment(folders: Sequence[Path]) -> Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def csp_hash(content: str) -> str:
    """The name by which a Content-Security-Policy lets an inline style or script run; browsers read CR LF as LF."""
    text = content.replace("\r\n", "\n").replace("\r", "\n")
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _shown(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
