#!/usr/bin/env bash
# pynetdicom 3.0.4: to install the library also installs programs under the names of dcmtk's, with other options.
#
# One would expect: a library to leave `storescu`, `echoscu`, `findscu`, `movescu`, `getscu`, `storescp` and others alone, names that
# scripts and manuals of this field have meant dcmtk by for thirty years; or programs of these names to take dcmtk's options.
#
# What happens: in an activated environment they stand before dcmtk's in PATH, and `storescu -R -xt ...`, which a slide needs (propose
# only what is sent, and JPEG-LS too), ends with a usage message and exit code 2. Whoever calls dcmtk from Python gives its full path.
#
# Versions: pynetdicom 3.0.4, Python 3.11. dcmtk is not needed here.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
before=$(ls "$work/env/bin")
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check pynetdicom==3.0.4
"$work/env/bin/python" -c 'from importlib.metadata import version; print("pynetdicom", version("pynetdicom"))'

installed=$(comm -13 <(sort <<<"$before") <(ls "$work/env/bin" | sort))
echo "installed:" $installed
for name in echoscu findscu getscu movescu storescp storescu; do
  grep -qx "$name" <<<"$installed" || { echo "the behaviour has changed: no $name is installed"; exit 1; }
done

touch "$work/file.dcm"
code=0
said=$("$work/env/bin/storescu" -R -xt 127.0.0.1 104 "$work/file.dcm" 2>&1) || code=$?
echo "$said" | tail -1
[ "$code" = 2 ] && grep -q "unrecognized arguments: -R -xt" <<<"$said" || { echo "the behaviour has changed: dcmtk's options are taken"; exit 1; }
echo "As described: programs of dcmtk's names that do not take its options."
