"""A headless Chromium without a network, driven through its debugging pipe: in real time, and with no further package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


class Chromium:
    """The process, which takes seconds to begin; :class:`Browser` is one page in it that shares nothing with others.

    Commands are those of the Chrome DevTools Protocol, messages end with a zero byte. It reaches no machine but those that
    ``reaches`` excludes from that rule.
    """

    def __init__(self, profile: Path, size: str = "1366,768", reaches: str = "") -> None:
        command_out, self._commands = os.pipe()
        self._answers, answer_in = os.pipe()
        chromium = [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={size}", "--remote-debugging-pipe"),
            *(f"--host-resolver-rules=MAP * ~NOTFOUND{reaches}", f"--user-data-dir={profile}", "--no-first-run"),
        ]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{command_out} 4>&{answer_in}', "bash", *chromium],
            pass_fds=(command_out, answer_in),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_out)
        os.close(answer_in)
        self._buffer, self._number = b"", 0
        self.hears: dict[str, Callable[[dict[str, Any]], None]] = {}
        """Who is told the events of a session."""

    def send(self, session: str, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """What a command answers; ``session`` is empty for those to the process."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.hears.get(answer.get("sessionId", ""), lambda event: None)(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            more = os.read(self._answers, 1 << 16)
            assert more, "chromium has ended"
            self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        for end in (self._commands, self._answers):
            os.close(end)


def begun_chromium(profile: Path, reaches: str = "") -> Iterator[Chromium]:
    """What a fixture yields; its tests skip where there is no Chromium."""
    if not shutil.which("chromium"):
        pytest.skip("needs the system package chromium")
    begun = Chromium(profile, reaches=reaches)
    yield begun
    begun.close()


class Browser:
    """One page in Chromium, with storage of its own that ends with it."""

    def __init__(self, chromium: Chromium) -> None:
        self._chromium, self._session = chromium, ""
        self._context = self.send("Target.createBrowserContext")["browserContextId"]
        self.said: list[str] = []

    def open(self, page: Path) -> None:
        self.new_window()
        self.send("Page.navigate", url=page.as_uri())

    def new_window(self) -> None:
        """An empty page, to which what is sent goes from now on."""
        self._session = ""
        target = self.send("Target.createTarget", url="about:blank", browserContextId=self._context)["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._chromium.hears[self._session] = self._listen
        for domain in ("Runtime", "Log", "Page"):
            self.send(f"{domain}.enable")

    def evaluate(self, expression: str) -> Any:
        """The value that an expression, or the promise that it is, comes to."""
        found = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._chromium.send(self._session, method, parameters)

    def _listen(self, event: dict[str, Any]) -> None:
        """Keep what the console shows as an error; the warnings of the test's own reading of pixels are none."""
        said = event.get("params", {})
        thrown = event.get("method") == "Runtime.exceptionThrown"
        if thrown or "error" in (said.get("entry", {}).get("level"), said.get("type")):
            self.said.append(json.dumps(said)[:500])

    def close(self) -> None:
        self._session = ""
        self.send("Target.disposeBrowserContext", browserContextId=self._context)
