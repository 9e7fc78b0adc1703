"""An iteration of `mu` with the Kullback-Leibler loss against scikit-learn's.

The four products of an iteration alone (in NumPy, that is OpenBLAS) are printed too:
they bound what any alternating multiplicative update can gain.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from common import Case, Ours, alternate, real, synthetic

ITERATIONS = 20


def sklearn_seconds(case: Case) -> float:
    """Seconds of an iteration: scikit-learn's inner function, no input checks."""
    from sklearn.decomposition import _nmf

    update: Any = _nmf._fit_multiplicative_update

    W, H = case.start()
    begin = time.perf_counter()
    update(
        case.V, W, H, beta_loss=1, max_iter=ITERATIONS, tol=0, l1_reg_W=0, l1_reg_H=0,
        l2_reg_W=0, l2_reg_H=0, update_H=True, verbose=0,
    )  # fmt: skip
    return (time.perf_counter() - begin) / ITERATIONS


def product_seconds(case: Case) -> float:
    """Seconds of WH twice, WᵀQ and QHᵀ by OpenBLAS."""
    W, H = case.start()
    X = np.empty_like(case.V)
    begin = time.perf_counter()
    for _ in range(ITERATIONS):
        np.matmul(W, H, out=X)
        _ = W.T @ case.V
        np.matmul(W, H, out=X)
        _ = case.V @ H.T
    return (time.perf_counter() - begin) / ITERATIONS


def main(repeats: int = 9) -> None:
    cases = [synthetic(2000, 1000, 20), real("cbcl_faces", 49), real("cbcl_faces", 10)]
    for case in cases:
        plain, joint = Ours(case, "mu", "kl"), Ours(case, "mu", "kl", joint=True)

        def per_iteration(ours: Ours) -> float:
            time.sleep(0.3)  # OpenBLAS's threads spin for a while after their work
            ours.iterate(2 * ITERATIONS)  # and an idle core takes a while to speed up
            begin = time.perf_counter()
            ours.iterate(ITERATIONS)
            return (time.perf_counter() - begin) / ITERATIONS

        seconds = alternate(
            repeats,
            lambda case=case: sklearn_seconds(case),
            lambda case=case: product_seconds(case),
            lambda plain=plain: per_iteration(plain),
            lambda joint=joint: per_iteration(joint),
        )
        sklearn, products, mu, both = (1e3 * float(np.median(s)) for s in seconds)
        print(
            f"{case.name:22} p={case.rank:<3} sklearn {sklearn:6.3f} ms, products "
            f"alone {products:6.3f} ms, mu {mu:6.3f} ms, joint {both:6.3f} ms; "
            f"sklearn/mu {sklearn / mu:.2f}, joint {sklearn / both:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main(*(int(x) for x in sys.argv[1:]))
