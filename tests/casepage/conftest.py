"""A headless Chromium without a network, driven through its debugging pipe: in real time, and with no further package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class Browser:
    """One page in Chromium.

    Commands are those of the Chrome DevTools Protocol, messages end with a zero byte.
    """

    def __init__(self, profile: Path, size: str) -> None:
        command_out, self._commands = os.pipe()
        self._answers, answer_in = os.pipe()
        chromium = [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={size}", "--remote-debugging-pipe"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", "--no-first-run"),
        ]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{command_out} 4>&{answer_in}', "bash", *chromium],
            pass_fds=(command_out, answer_in),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_out)
        os.close(answer_in)
        self._buffer, self._number, self._session = b"", 0, ""
        self.said: list[str] = []

    def open(self, page: Path) -> None:
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self.send(f"{domain}.enable")
        self.send("Page.navigate", url=page.as_uri())

    def evaluate(self, expression: str) -> Any:
        """The value that an expression, or the promise that it is, comes to."""
        found = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._listen(answer)

    def _listen(self, event: dict[str, Any]) -> None:
        """Keep what the console shows as an error; the warnings of the test's own reading of pixels are none."""
        said = event.get("params", {})
        thrown = event.get("method") == "Runtime.exceptionThrown"
        if thrown or "error" in (said.get("entry", {}).get("level"), said.get("type")):
            self.said.append(json.dumps(said)[:500])

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


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if not shutil.which("chromium"):
        pytest.skip("needs the system package chromium")
    opened = Browser(tmp_path / "profile", "1366,768")
    yield opened
    opened.close()
