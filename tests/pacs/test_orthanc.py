"""A case from a real PACS to its results there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from orthanc import missing


@pytest.mark.skipif((why := missing()) is not None, reason=str(why))
def test_results_of_what_orthanc_and_storescu_send_stand_in_orthanc_in_the_same_study() -> None:
    script = Path(__file__).with_name("orthanc_roundtrip.py")
    call = [sys.executable, str(script), "--small"]
    done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("frames are the same") == 2
