"""A small stand-in for a DICOMweb server on loopback: metadata and frames of a folder, and the page that shows them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

PAGE = Path(__file__).with_name("page.html")
PIXELS = ("PixelData", "FloatPixelData")
KINDS = {".js": "text/javascript", ".wasm": "application/wasm", ".html": "text/html"}


class Stand:
    """What is served: the objects of a folder and the files of the viewer; ``said`` is what the page complained of."""

    def __init__(self, folder: Path, viewer: Path, regions: list[dict[str, Any]], seconds: float) -> None:
        self.objects = [(file.name, pydicom.dcmread(file)) for file in sorted(folder.glob("*.dcm"))]
        self.viewer, self.regions, self.seconds = viewer, regions, seconds
        self.bulk: list[bytes] = []
        self.said: str | None = None

    def answer(self, path: str, host: str) -> tuple[bytes, str]:
        first, *rest = path.split("?")[0].strip("/").split("/")
        if first == "metadata":
            return json.dumps(
                [{"name": name, "json": self._metadata(each, host)} for name, each in self.objects]
            ).encode(), ".json"
        if first == "frame":
            return self._frame(*rest), ""
        if first == "bulk":
            return self.bulk[int(rest[0])], ""
        if first == "regions":
            return json.dumps(self.regions).encode(), ".json"
        if first == "slow":
            time.sleep(self.seconds)
            return b"", ""
        if first == "":
            return PAGE.read_bytes(), ".html"
        # The viewer asks for its worker and decoders below /static/js.
        names = rest[1:] if first == "static" else [first, *rest]
        for folder in (self.viewer / "dynamic-import", self.viewer):
            if (file := folder.joinpath(*names)).is_file():
                return file.read_bytes(), file.suffix
        raise FileNotFoundError(path)

    def _metadata(self, document: Dataset, host: str) -> dict[str, Any]:
        header = Dataset()
        header.update({tag: document[tag] for tag in document.keys() if document[tag].keyword not in PIXELS})  # noqa: SIM118

        def by_reference(element: DataElement) -> str:
            self.bulk.append(element.value)
            return f"http://{host}/bulk/{len(self.bulk) - 1}"

        return header.to_json_dict(bulk_data_threshold=1, bulk_data_element_handler=by_reference)

    def _frame(self, uid: str, number: str) -> bytes:
        document = next(each for _, each in self.objects if each.SOPInstanceUID == uid)
        if document.file_meta.TransferSyntaxUID.is_encapsulated:
            frames = list(generate_frames(document.PixelData, number_of_frames=int(document.NumberOfFrames)))
            return frames[int(number) - 1]
        pixels: bytes = document.get("PixelData") or document.FloatPixelData
        size = document.Rows * document.Columns * document.BitsAllocated // 8
        return pixels[(int(number) - 1) * size : int(number) * size]


@contextmanager
def served(stand: Stand) -> Iterator[str]:
    """The address of a stand while it is served."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def _send(self, status: int, content: bytes = b"", suffix: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Type", KINDS.get(suffix, "application/octet-stream"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            try:
                self._send(200, *stand.answer(self.path, self.headers["Host"]))
            except FileNotFoundError:
                self._send(404)

        def do_POST(self) -> None:
            stand.said = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._send(200)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
