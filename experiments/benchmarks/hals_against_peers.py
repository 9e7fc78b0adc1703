"""`hals` against scikit-learn's coordinate descent and a NumPy HALS, dense data.

Time to within 1e-3 of the relative error that scikit-learn reaches after 300
iterations; same start, float32, two threads each. Compilation is left out of the
first ratio and put into the last.
"""

from __future__ import annotations

import sys

import numpy as np
from common import (
    Case,
    Ours,
    alternate,
    geometric_mean,
    numpy_hals,
    real,
    sklearn_cd,
    synthetic,
    time_to,
)

EVERY = 2  # iterations between looks


def cases() -> list[Case]:
    return [
        real("cbcl_faces", 49),
        real("jasper_ridge", 4),
        real("samson", 3),
        real("all_aml", 3),
        synthetic(2000, 1000, 20),
    ]


def main(repeats: int = 5) -> None:
    print(f"{'':24}{'sklearn':>9}{'NumPy':>9}{'hals':>9}  seconds to 1e-3")
    ratios, with_compile = [], []
    for case in cases():
        ours = Ours(case, "hals")
        *_, (_, reached) = sklearn_cd(case, 300, 50)
        target = reached * 1.001**2  # the loss is the square of the error
        seconds = alternate(
            repeats,
            lambda case=case, t=target: time_to(t, sklearn_cd(case, 300, EVERY)),
            lambda case=case, t=target: time_to(t, numpy_hals(case, 600, EVERY)),
            lambda ours=ours, t=target: time_to(t, ours.curve(600, EVERY, t)),
        )
        sklearn, numpy, hals = (float(np.median(s)) for s in seconds)
        ratios.append(sklearn / hals)
        with_compile.append(sklearn / (hals + ours.compile_seconds))
        print(
            f"{case.name:20} p={case.rank:<2}{sklearn:9.3f}{numpy:9.3f}{hals:9.3f}"
            f"  sklearn/hals {sklearn / hals:5.2f}  NumPy/hals {numpy / hals:5.2f}"
            f"  sklearn/(hals + compilation) {with_compile[-1]:5.2f}",
            flush=True,
        )
    print(f"geometric mean of sklearn/hals: {geometric_mean(ratios):.2f}")


if __name__ == "__main__":
    main(*(int(x) for x in sys.argv[1:]))
