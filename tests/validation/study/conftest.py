"""For test_viewer and test_serve: tasks with images of noise, and a rater at a headless Chromium with keyboard and mouse."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium_pipe import Browser, Chromium
from numpy.typing import NDArray

from srh_clinic.validation.study.questions import QUESTIONS
from srh_clinic.validation.study.records import Kind, Task, Window

Drawn = tuple[list[Task], dict[str, NDArray[np.uint8]]]

PX = 64
WINDOW = Window(low=1000.0, high=21000.0, red=(0.0, 8000.0), green=(2000.0, 18000.0), blue=(3000.0, 20000.0))

NAMED = {
    "Enter": ("Enter", 13, "\r"),
    "Escape": ("Escape", 27, ""),
    "Delete": ("Delete", 46, ""),
    "Tab": ("Tab", 9, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowUp": ("ArrowUp", 38, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
    " ": ("Space", 32, " "),
}
"""Code, number and text of keys whose name is not their letter."""


def draw_tasks(count: int, kind: Kind = "preference", *, study: str = "trial-1", rater: str = "p1", block: int = 6) -> Drawn:
    """Tasks with images of noise."""
    rng = np.random.default_rng(7)
    tasks: list[Task] = []
    images: dict[str, NDArray[np.uint8]] = {}
    for seq in range(count):
        task_id, lq, side_a, side_b = (rng.bytes(16).hex() for _ in range(4))
        shown = [lq, side_a, side_b] if kind == "preference" else [lq, side_a]
        images |= {name: rng.integers(0, 256, (2, PX, PX)).astype(np.uint8) for name in shown}
        tasks.append(
            Task(
                study_id=study,
                rater_id=rater,
                seq=seq,
                block=seq // block,
                task_id=task_id,
                lq_img=lq,
                img_A=side_a,
                img_B=side_b if kind == "preference" else None,
                height=PX,
                width=PX,
                um_per_px=0.5,
                window=WINDOW,
                focus=None if kind == "preference" else (16, 8, 20, 12),
                questions=QUESTIONS[kind],
            )
        )
    return tasks, images


class RaterAtBrowser(Browser):
    """A browser with hands: keys and mouse are Chromium's own input, not events that a script makes."""

    def begin(self, page: str | Path, *, before: str = "", until: str = "!document.getElementById('begin').disabled") -> None:
        """Open a page and wait until it can be begun; ``before`` runs ahead of the page's own script."""
        if not self._session:
            self.new_window()
        if before:
            self.send("Page.addScriptToEvaluateOnNewDocument", source=before)
        self.evaluate("window.stale = true")
        self.send("Page.navigate", url=page.as_uri() if isinstance(page, Path) else page)
        self.until(f"!window.stale && window.srhStudy && {until}")

    def reload(self) -> None:
        """Load the page again, as the browser's button does."""
        self.evaluate("window.stale = true")
        self.send("Page.reload")
        self.until("!window.stale && window.srhStudy && !document.getElementById('begin').disabled")

    def until(self, condition: str, seconds: float = 15) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                found = self.send("Runtime.evaluate", expression=f"Boolean({condition})", returnByValue=True)
            except AssertionError as error:  # the browser's word where the question met the page's replacement
                if "navigated" not in str(error):
                    raise
                continue
            if found["result"].get("value"):  # throws while the page is being replaced
                return
            time.sleep(0.02)
        raise AssertionError(f"never came true: {condition}; the page says {self.text('body')!r}")

    def state(self) -> dict[str, Any]:
        """What the page says of itself."""
        return self.evaluate("window.srhStudy.state()")

    def text(self, selector: str) -> str:
        """The text that is to be read in an element."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")

    def press(self, *keys: str, shift: bool = False, alt: bool = False) -> None:
        """Press and release keys."""
        for key in keys:
            self.key(key, down=True, shift=shift, alt=alt)
            self.key(key, down=False, shift=shift, alt=alt)

    def key(self, key: str, *, down: bool, shift: bool = False, alt: bool = False) -> None:
        """Press or release one key."""
        code, number, text = NAMED.get(key, ((f"Key{key.upper()}" if key.isalpha() else ""), ord(key[0].upper()), key))
        kind = "keyUp" if not down else "rawKeyDown" if alt or not text else "keyDown"
        more = {"text": text} if kind == "keyDown" else {}
        modifiers = alt * 1 + shift * 8
        said = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": modifiers, **more}
        self.send("Input.dispatchKeyEvent", type=kind, **said)

    def at(self, selector: str, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        """A place on the screen: shares of an element's width and height."""
        box = self.evaluate(f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()")
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def mouse(self, kind: str, at: tuple[float, float], **more: Any) -> None:
        """Move, press, release or wheel at a place of the screen."""
        self.send("Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], **more)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the button at one place and release it at another."""
        self.mouse("mouseMoved", start)
        self.mouse("mousePressed", start, button="left", buttons=1, clickCount=1)
        if end != start:
            self.mouse("mouseMoved", end, button="left", buttons=1)
        self.mouse("mouseReleased", end, button="left", clickCount=1)

    def click(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Click on an element."""
        self.drag(self.at(selector, x, y), self.at(selector, x, y))

    def wheel(self, selector: str, delta: float) -> None:
        """Turn the wheel over an element; negative is away from the hand."""
        self.mouse("mouseWheel", self.at(selector), deltaX=0, deltaY=delta)

    def open_task(self) -> None:
        """From the start or a pause to the task."""
        self.press("Enter")
        self.until("!document.getElementById('task').hidden")
        self.settle()

    def commit(self) -> None:
        """Commit the open task, and wait for what comes then."""
        answered = self.state()["answered"]
        self.press("Enter")
        self.until(f"window.srhStudy.state().answered === {answered + 1}")
        self.settle()

    def settle(self) -> None:
        """Wait until the page has drawn."""
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def downloads(self, folder: Path) -> None:
        """Let the page save files into a folder."""
        self.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def choose_file(self, path: Path) -> None:
        """What choosing a file for the import does."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screen(self, width: int, height: int) -> None:
        """Give the screen a size."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.settle()

    def photograph(self, path: Path) -> None:
        """Save what is on the screen as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


@pytest.fixture
def new_rater(chromium: Chromium) -> Iterator[Callable[[], RaterAtBrowser]]:
    """Makes raters, each at a browser of their own that keeps nothing of the others."""
    opened: list[RaterAtBrowser] = []

    def make() -> RaterAtBrowser:
        opened.append(RaterAtBrowser(chromium))
        return opened[-1]

    yield make
    for rater in opened:
        rater.close()


@pytest.fixture(scope="session")
def noise_tasks() -> Callable[..., Drawn]:
    """:func:`draw_tasks`."""
    return draw_tasks
