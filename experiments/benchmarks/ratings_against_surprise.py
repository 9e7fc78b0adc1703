"""Ratings: an epoch, and the time to a model's quality, against `surprise.NMF`.

movielens_small, four fifths of the ratings at random to train on, p = 20. surprise
(scikit-surprise, not a dependency: install it in an environment of its own and pass its
Python) is given the same split; its plain NMF and, with ``biased=True``, the one with
offsets. The quality to reach is the best test RMSE of surprise over its epochs.

    python experiments/benchmarks/ratings_against_surprise.py PYTHON_WITH_SURPRISE
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np

RANK, EPOCHS = 20, 100

THEIRS = """
import json, sys, time
import numpy as np
from surprise import NMF, Dataset, Reader
import pandas as pd
path, rank, epochs, biased = sys.argv[1], *map(int, sys.argv[2:5])
with np.load(path) as split:
    train, test = split["train"], split["test"]
frame = pd.DataFrame(train, columns=["user", "item", "rating"])
known = Dataset.load_from_df(frame, Reader(rating_scale=(0.5, 5))).build_full_trainset()
def fit(n):
    model = NMF(n_factors=rank, n_epochs=n, biased=bool(biased), random_state=0)
    begin = time.perf_counter()
    model.fit(known)
    return model, time.perf_counter() - begin
curve = []
for n in (5, 10, 20, 30, 50, epochs):
    model, seconds = fit(n)
    error = [model.predict(u, i).est - r for u, i, r in test]
    curve.append((n, seconds, float(np.sqrt(np.mean(np.square(error))))))
print(json.dumps(curve))
"""


def split() -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """(user, item, rating) of the training and of the test part."""
    from jaxnmf import datasets

    V = datasets.load("movielens_small").V
    entries = np.column_stack([V.rows, V.cols, V.values]).astype(np.float64)
    order = np.random.default_rng(0).permutation(len(entries))
    cut = len(entries) // 5
    return entries[order[cut:]], entries[order[:cut]], V.shape


def main(python: str) -> None:
    import tempfile

    import jaxnmf

    train, test, shape = split()
    V = jaxnmf.Observed(
        train[:, 0].astype(int), train[:, 1].astype(int), train[:, 2], shape
    )
    users, items = test[:, 0].astype(int), test[:, 1].astype(int)

    def rmse(result: jaxnmf.Result) -> float:
        predicted = np.clip(result.predict(users, items), 0.5, 5)
        return float(np.sqrt(np.mean((predicted - test[:, 2]) ** 2)))

    def ours(epochs: int, offsets: bool) -> jaxnmf.Result:
        return jaxnmf.factorize(
            V, RANK, l2=(20.0, 10.0), toward="mean", offsets=offsets, tol=0.0,
            max_iter=epochs, record_every=epochs, kkt=False,
        )  # fmt: skip

    with tempfile.NamedTemporaryFile(suffix=".npz") as opened:
        np.savez(opened, train=train, test=test)
        opened.flush()
        for biased in (0, 1):
            command = [python, "-c", THEIRS, opened.name, RANK, EPOCHS, biased]
            done = subprocess.run(
                [str(x) for x in command], capture_output=True, text=True, check=True
            )
            curve = json.loads(done.stdout.splitlines()[-1])
            epoch = float(np.median([seconds / n for n, seconds, _ in curve]))
            goal = min(error for *_, error in curve)
            theirs = next(seconds for _, seconds, error in curve if error == goal)
            time.sleep(0.5)
            ours(1, bool(biased))
            for epochs in (1, 2, 3, 5, 10, 20, 60):
                result = ours(epochs, bool(biased))
                error = rmse(result)
                if error <= goal:
                    break
            long = ours(60, bool(biased))
            print(f"offsets={bool(biased)}:")
            print(f"  surprise {1e3 * epoch:.1f} ms an epoch, ", end="")
            print(f"RMSE {goal:.4f} after {theirs:.2f} s")
            print(f"  jaxnmf {1e3 * long.seconds / 60:.1f} ms an iteration, ", end="")
            print(f"RMSE {error:.4f} after {result.seconds:.3f} s, ", end="")
            print(f"{theirs / result.seconds:.1f}×; {rmse(long):.4f} after 60")


if __name__ == "__main__":
    main(sys.argv[1])
