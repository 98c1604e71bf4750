"""The viewer: one HTML file for one rater, with its tasks, its images and the code that shows them, for use without a network.

Images lie in it as raw pixels, so that all have one length: how well an image can be compressed tells which method made it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srh_clinic.errors import InputError
from srh_clinic.escaping import page_text
from srh_clinic.files import parsed_json, write_whole
from srh_clinic.validation.study.questions import AS_SCANNED, MARK_WORDING, QUESTIONS, Wording, wording
from srh_clinic.validation.study.records import LARGEST_MARK, MOST_MARKS, SCHEMA_VERSION, Kind, Task, canonical
from srh_clinic.validation.study.returns import RECEIPT

TASKS_BEGIN = b'<script type="application/json" id="tasks">'
END = b"</script>"
IMAGES_BEGIN = b"\n<!-- images -->\n"
IMAGES_END = b"<!-- end of images -->\n"
IMAGE = re.compile(rb'<script type="text/plain" data-img="([0-9a-f]{32})">([0-9A-Za-z+/]*={0,2})</script>\n')

SECRET = re.compile(rb'"secret": "([0-9a-f]{64})"')

NEEDED = "a viewer as this version writes it"


@dataclass(frozen=True)
class Page:
    """What a rater's page says beside its tasks.

    Attributes
    ----------
    title, notice
        What the page calls the study, and what it says about it below; both are shown as text.
    kind
        Of the study: ``preference`` shows input, A and B, ``review`` input and A.
    secret
        Of this rater's page: only who has it can chain this rater's answers. Empty in studies of earlier versions.
    commitment
        To the sealed key, for the rater to note before the first task.
    """

    title: str
    kind: Kind
    notice: str = ""
    secret: str = ""
    commitment: str = ""


@dataclass(frozen=True, eq=False)
class ViewerContents:
    """What a viewer's file holds.

    Attributes
    ----------
    tasks
        As they stand in the file, in its order; nothing is checked.
    images
        Raw bytes by id in the order of the file: CH2, then CH3, row by row.
    code
        The file without its tasks and images: what :func:`viewer_code` gives for the same page.
    """

    tasks: tuple[dict[str, Any], ...]
    images: Mapping[str, bytes]
    code: bytes

    @property
    def secret(self) -> str:
        """The secret of the page; empty where it has none."""
        found = SECRET.search(self.code)
        return found[1].decode() if found else ""


def write_viewer(path: str | Path, page: Page, tasks: Sequence[Task], images: Mapping[str, NDArray[np.uint8]]) -> Path:
    """Write a rater's viewer into ``path``, whole or not at all; its bytes follow from the arguments alone.

    Parameters
    ----------
    tasks
        Of one rater, in the order in which they are asked.
    images
        Two planes, uint8 ``(2, height, width)``, by the ids that the tasks name; others are left out.

    Raises
    ------
    InputError
        When there is no task, an image is missing or of another shape, or the file cannot be written.
    """
    if not tasks:
        raise InputError("no tasks", "at least one task for a viewer", path)
    head, middle, tail = _code(page)
    shown = canonical([task.model_dump(mode="json") for task in tasks]).decode()
    # No markup can begin inside the JSON, whatever a study is called.
    escaped = shown.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()
    parts = [head, escaped, middle]
    for task in tasks:
        for name in (task.lq_img, task.img_A, task.img_B):
            if name is not None:
                parts.append(_image(name, images, task, path))
    return write_whole(Path(path), b"".join([*parts, tail]))


def viewer_code(page: Page) -> bytes:
    """A viewer without tasks and images, to compare with :attr:`ViewerContents.code`."""
    return b"".join(_code(page))


def read_viewer(path: str | Path) -> ViewerContents:
    """Take a viewer's file apart.

    Raises
    ------
    InputError
        When the file cannot be read, or is not put together as :func:`write_viewer` does it.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(error.strerror or str(error), NEEDED, path) from error
    head, tasks, rest = _between(content, TASKS_BEGIN, END, "list of tasks", path)
    middle, pictures, tail = _between(rest, IMAGES_BEGIN, IMAGES_END, "part with images", path)
    try:
        listed = parsed_json(tasks)
    except ValueError as error:
        raise InputError(f"tasks that are not valid JSON ({error})", NEEDED, path) from error
    if not isinstance(listed, list) or not all(isinstance(task, dict) for task in listed):
        raise InputError("tasks that are not a list of objects", NEEDED, path)
    return ViewerContents(tuple(listed), _images(pictures, path), head + middle + tail)


def _code(page: Page) -> tuple[bytes, bytes, bytes]:
    """The page before its tasks, between tasks and images, and after the images."""
    rendered = page_text(
        [Path(__file__).parent],
        "viewer.html",
        policy=["connect-src 'self'"],
        page=page,
        kind=page.kind,
        style=_text("viewer.css"),
        script=_text("viewer.js"),
        questions=[wording(page.kind, question) for question in QUESTIONS[page.kind]],
        as_scanned=AS_SCANNED,
        terms=_terms(page),
    )
    head, nothing, rest = _between(rendered.encode(), TASKS_BEGIN, END, "list of tasks", "viewer.html")
    middle, none, tail = _between(rest, IMAGES_BEGIN, IMAGES_END, "part with images", "viewer.html")
    if nothing or none:
        raise InputError("tasks or images", "a template without them", "viewer.html")
    return head, middle, tail


def _terms(page: Page) -> dict[str, Any]:
    """What the script has to know: the words of the questions, and what a return holds beside the answers."""
    asked: dict[str, Wording] = {question: wording(page.kind, question) for question in QUESTIONS[page.kind]}
    asked |= MARK_WORDING
    return {
        "kind": page.kind,
        "as_scanned": AS_SCANNED,
        "questions": {
            name: {"text": one.text, "choices": [[choice.value, choice.label] for choice in one.choices]}
            for name, one in asked.items()
        },
        "largest_mark": LARGEST_MARK,
        "most_marks": MOST_MARKS,
        "receipt": RECEIPT,
        "secret": page.secret,
        "schema_version": SCHEMA_VERSION,
    }


def _between(content: bytes, begin: bytes, end: bytes, what: str, path: str | Path) -> tuple[bytes, bytes, bytes]:
    """What comes before, inside, and after; the marks stay with what is outside.

    Raises
    ------
    InputError
        When the first mark is not there exactly once, or the other does not follow.
    """
    before, found, rest = content.partition(begin)
    inside, ended, after = rest.partition(end)
    if not found or not ended or begin in rest:
        raise InputError(f"{'more than one' if begin in rest else 'no'} {what}", NEEDED, path)
    return before + begin, inside, end + after


def _image(name: str, images: Mapping[str, NDArray[np.uint8]], task: Task, path: str | Path) -> bytes:
    planes = images.get(name)
    needed = f"two planes of uint8 with shape (2, {task.height}, {task.width}) for {name}"
    if planes is None:
        raise InputError("no image", needed, path)
    if planes.dtype != np.uint8 or planes.shape != (2, task.height, task.width):
        raise InputError(f"{planes.dtype} with shape {planes.shape}", needed, path)
    pixels = base64.b64encode(planes.tobytes())
    return b'<script type="text/plain" data-img="%s">%s</script>\n' % (name.encode(), pixels)


def _images(content: bytes, path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    place = 0
    while place < len(content):
        match = IMAGE.match(content, place)
        if match is None:
            raise InputError(f"something that is not an image after {len(found)} images", NEEDED, path)
        name = match[1].decode()
        if name in found:
            raise InputError(f"two images named {name}", NEEDED, path)
        try:
            found[name] = base64.b64decode(match[2], validate=True)
        except binascii.Error as error:
            raise InputError(f"an image {name} that is not valid base64 ({error})", NEEDED, path) from error
        place = match.end()
    return found


def _text(name: str) -> str:
    return (files("srh_clinic.validation.study") / name).read_text(encoding="utf-8")
