"""The two solvers of scikit-learn."""

import warnings

from benchopt import BaseSolver
from sklearn.decomposition import non_negative_factorization


class Solver(BaseSolver):
    """`sklearn.decomposition.non_negative_factorization`, with tol=0."""

    name = "scikit-learn"
    requirements = ("scikit-learn",)
    parameters = {"solver": ["cd", "mu"]}  # noqa: RUF012

    def skip(self, V, loss, W, H):
        if self.solver == "cd" and loss != "frobenius":
            return True, "coordinate descent is for the Frobenius loss"
        return False, None

    def set_objective(self, V, loss, W, H):
        self.V, self.loss, self.W, self.H = V, loss, W, H

    def run(self, iterations):
        self.result = self.W, self.H
        if iterations == 0:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            W, H, _ = non_negative_factorization(
                self.V,
                self.W.copy(),
                self.H.copy(),
                init="custom",
                n_components=self.W.shape[1],
                solver=self.solver,
                beta_loss=self.loss,
                tol=0,
                max_iter=iterations,
            )
        self.result = W, H

    def get_result(self):
        W, H = self.result
        return {"W": W, "H": H}
