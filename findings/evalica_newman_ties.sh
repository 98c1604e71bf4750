#!/usr/bin/env bash
# evalica 0.4.2: where wins are balanced, `newman` gives back the tie parameter that it was begun with.
#
# One would expect: with 10 wins, 5 ties and 10 losses between two methods, Newman's (2023) model has its largest likelihood at equal
# strengths and v = 0.25, because a tie then has the probability 2 v / (2 + 2 v) = 5 / 25; and that v does not depend on `v_init`.
#
# What happens: v equals v_init, after one iteration. The iteration ends when the scores no longer move, and from equal scores balanced
# answers do not move them, so v is never fitted. With 12 wins, 5 ties and 8 losses it is, and v is 0.2552 from every beginning. In a
# blinded study two restorations of equal worth are the case that matters.
#
# Versions: evalica 0.4.2, numpy 2.4.6, pandas 3.1.1, Python 3.11.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check evalica==0.4.2 numpy==2.4.6 pandas==3.1.1
"$work/env/bin/python" - <<'PYTHON'
from importlib.metadata import version

import evalica
from evalica import Winner

print("evalica", version("evalica"), "numpy", version("numpy"), "pandas", version("pandas"))


def fitted(wins: int, ties: int, losses: int, begin: float) -> float:
    answers = [Winner.X] * wins + [Winner.Draw] * ties + [Winner.Y] * losses
    result = evalica.newman(["a"] * len(answers), ["b"] * len(answers), answers, v_init=begin)
    print(f"{wins}/{ties}/{losses} from v_init {begin}: v {result.v:.4f} after {result.iterations} iterations")
    return float(result.v)


BEGINNINGS = (0.1, 0.5, 2.0)
balanced = [fitted(10, 5, 10, begin) for begin in BEGINNINGS]
uneven = [fitted(12, 5, 8, begin) for begin in BEGINNINGS]
assert balanced == list(BEGINNINGS), "the behaviour has changed: v is fitted where wins are balanced"
assert all(abs(v - 0.2552) < 1e-3 for v in uneven), "the behaviour has changed where wins are uneven"
print("As described: with balanced wins v is whatever it was begun with; the likelihood's maximum is 0.25.")
PYTHON
