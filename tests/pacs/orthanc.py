"""Debian's Orthanc as the PACS of a test, where nobody but the test can reach it.

It listens at every address of the machine, so it is only started where there is none but that of the loopback: in a network
namespace of its own, which :func:`alone` goes into.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arriving_slides import until
from dcmtk import dcmtk

TITLE, DICOM_PORT, HTTP_PORT = "ORTHANC", 14_242, 18_042
ADDRESS = f"{TITLE}@127.0.0.1:{DICOM_PORT}"
WEB = f"http://127.0.0.1:{HTTP_PORT}/dicom-web"
PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"


def missing() -> str | None:
    """What a machine lacks to run Orthanc alone; None when it lacks nothing."""
    for name, package in (("Orthanc", "orthanc"), ("unshare", "util-linux"), ("ip", "iproute2"), ("storescu", "dcmtk")):
        if (dcmtk(name) if package == "dcmtk" else shutil.which(name)) is None:
            return f"no {name}: apt-get install {package}"
    tried = subprocess.run([*_namespace(), "ip link set lo up"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "no network namespace for this user"


def _namespace() -> list[str]:
    return ["unshare", "-n", *([] if os.geteuid() == 0 else ["-r"]), "sh", "-c"]


def in_namespace(script: Path, *arguments: str) -> list[str]:
    """The call that runs a script of Python where there is no network."""
    return [*_namespace(), 'ip link set lo up && exec "$@"', "sh", sys.executable, str(script), *arguments]


def require_alone() -> None:
    """End when this process can be reached from elsewhere."""
    there = {path.name for path in Path("/sys/class/net").iterdir()}
    interfaces = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    if interfaces.count("\n") != 1 or "lo:" not in interfaces:
        raise SystemExit(f"Orthanc would be reachable from elsewhere: {sorted(there)}")


class Orthanc:
    """A running one; asked by its REST interface."""

    def ask(self, path: str, data: bytes | None = None) -> Any:
        """GET, or POST of ``data``; what JSON says, or the bytes."""
        request = urllib.request.Request(f"http://127.0.0.1:{HTTP_PORT}{path}", data=data)
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            content = answer.read()
            return json.loads(content) if "json" in answer.headers.get("Content-Type", "") else content

    def upload(self, files: Sequence[Path]) -> str:
        """Store files by REST; Orthanc's name of their series."""
        said = [self.ask("/instances", file.read_bytes()) for file in files]
        return str(said[0]["ParentSeries"])

    def send(self, series: str, to: str = "listener") -> None:
        """C-STORE of a series to a modality that it knows."""
        self.ask(f"/modalities/{to}/store", json.dumps({"Resources": [series], "Synchronous": True}).encode())

    def instances(self, study_uid: str) -> dict[str, str]:
        """Orthanc's names of the instances of a study by their SOP Instance UIDs."""
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study_uid}, "Expand": True}
        found = self.ask("/tools/find", json.dumps(query).encode())
        return {one["MainDicomTags"]["SOPInstanceUID"]: one["ID"] for one in found}


@contextmanager
def orthanc(folder: Path, modalities: Mapping[str, tuple[str, str, int]], *, web: bool = False) -> Iterator[Orthanc]:
    """Orthanc for as long as the context lasts, with what it knows by name: AE title, address and port.

    With ``web`` it has its DICOMweb plugin, at :data:`WEB`.
    """
    require_alone()
    folder.mkdir(parents=True, exist_ok=True)
    said = {
        "Name": "test",
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "HttpPort": HTTP_PORT,
        "DicomPort": DICOM_PORT,
        "DicomAet": TITLE,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomCheckCalledAet": False,
        "Plugins": [PLUGIN] if web else [],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "DicomModalities": {name: list(where) for name, where in modalities.items()},
    }
    (folder / "orthanc.json").write_text(json.dumps(said))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log)
    running = Orthanc()

    def answers() -> bool:
        assert process.poll() is None, (folder / "orthanc.log").read_text()
        try:
            running.ask("/system")
        except urllib.error.URLError:
            return False
        return True

    try:
        until(answers)
        yield running
    finally:
        process.terminate()
        process.wait()
