"""What importing the metrics costs."""

from __future__ import annotations

import subprocess
import sys


def test_networks_and_plots_are_imported_where_they_are_used() -> None:
    code = (
        "import sys, srh_clinic.metrics\n"
        "slow = {'monai', 'timm', 'torchvision', 'lpips', 'torchmetrics', 'skimage', 'sklearn', 'statsmodels', 'matplotlib'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
