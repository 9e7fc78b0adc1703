"""The objective of every solver here: D(V | WH), from the same start for all."""

import numpy as np
from benchopt import BaseObjective


class Objective(BaseObjective):
    """min over W, H ≥ 0 of D(V | WH), D the Frobenius or Kullback-Leibler loss."""

    name = "Non-negative matrix factorisation"
    min_benchopt_version = "1.6"
    requirements = ("pip::jaxnmf",)
    sampling_strategy = "iteration"
    parameters = {  # noqa: RUF012
        "loss": ["frobenius", "kullback-leibler"],
        "seed": [0],
    }

    def set_data(self, V, rank):
        self.V, self.rank = V, rank

    def get_objective(self):
        """What a solver is given: V, the loss and a start of the right scale."""
        rng = np.random.default_rng(self.seed)
        m, n = self.V.shape
        scale = 2 * np.sqrt(self.V.mean() / self.rank)
        W = scale * rng.random((m, self.rank))
        H = scale * rng.random((self.rank, n))
        return {"V": self.V, "loss": self.loss, "W": W, "H": H}

    def evaluate_result(self, W, H):
        V, X = self.V, np.asarray(W, np.float64) @ np.asarray(H, np.float64)
        squares = np.sum((V - X) ** 2)
        if self.loss == "frobenius":
            value = 0.5 * squares
        else:
            X = np.maximum(X, np.finfo(np.float64).tiny)
            logs = V * np.log(np.where(V > 0, V / X, 1))
            value = np.sum(logs - V + X)
        error = np.sqrt(squares / np.sum(V**2))
        return {"value": value, "relative_error": error}

    def get_one_result(self):
        m, n = self.V.shape
        return {"W": np.ones((m, self.rank)), "H": np.ones((self.rank, n))}
