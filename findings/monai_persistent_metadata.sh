#!/usr/bin/env bash
# MONAI 1.6.1: an image out of PersistentDataset has an affine the first time it is asked for, and none the second time.
#
# One would expect: a cache changes nothing of what it hands out; CacheDataset, the same in memory, does not. At the least, that an
# image whose pixel size is in its affine either has it always or never.
#
# What happens: with the defaults (track_meta=False, weights_only=True) the first pass over a PersistentDataset gives the MetaTensor
# that the transforms made, with affine and metadata; every later pass, in this process or in another, gives a plain Tensor of the
# same values. A spatial transform after it then works in pixels where it worked in micrometres. With track_meta=True and
# weights_only=False both passes are alike.
#
# Versions: monai 1.6.1, torch 2.14.1, numpy 2.4.6, Python 3.11.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check monai==1.6.1 torch==2.14.1 numpy==2.4.6
CACHE="$work/cache" "$work/env/bin/python" - <<'PYTHON'
import os
from importlib.metadata import version
from pathlib import Path

import torch
from monai.data import CacheDataset, MetaTensor, PersistentDataset
from monai.transforms import Compose, Lambdad

print("monai", version("monai"), "torch", version("torch"), "numpy", version("numpy"))


def image(_: int) -> MetaTensor:
    """Two channels of 4 x 4 pixels of 0.5 micrometres."""
    return MetaTensor(torch.ones(2, 4, 4), affine=torch.diag(torch.tensor([0.5, 0.5, 1.0, 1.0])), meta={"unit": "um"})


cases = [{"image": 0}]
chain = Compose([Lambdad("image", image)])
cache = Path(os.environ["CACHE"])
datasets = {
    "CacheDataset": CacheDataset(cases, chain, progress=False),
    "PersistentDataset": PersistentDataset(cases, chain, cache_dir=cache / "plain"),
    "PersistentDataset, track_meta": PersistentDataset(
        cases, chain, cache_dir=cache / "tracked", track_meta=True, weights_only=False
    ),
}
found = {}
for name, dataset in datasets.items():
    seen = [dataset[0]["image"] for _ in range(2)]
    found[name] = [isinstance(one, MetaTensor) and float(one.affine[0, 0]) == 0.5 for one in seen]
    print(f"{name}: {' then '.join(type(one).__name__ for one in seen)}, pixel size kept {found[name]}")
assert found == {
    "CacheDataset": [True, True],
    "PersistentDataset": [True, False],
    "PersistentDataset, track_meta": [True, True],
}, "the behaviour has changed"
print("As described: by default the second pass over a PersistentDataset has lost affine and metadata.")
PYTHON
