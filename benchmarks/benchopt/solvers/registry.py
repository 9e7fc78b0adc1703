"""Every solver of jaxnmf's registry, those of other installed packages included."""

import warnings

from benchopt import BaseSolver

import jaxnmf
from jaxnmf.experiment.config import comparable_solvers

FITTING = {
    loss: comparable_solvers(loss).split(",")
    for loss in ("frobenius", "kullback-leibler")
}
EVERY = sorted({name for names in FITTING.values() for name in names})


class Solver(BaseSolver):
    """`jaxnmf.factorize` for a number of iterations, compilation not timed."""

    name = "jaxnmf"
    requirements = ("pip::jaxnmf",)
    parameters = {"solver": EVERY}  # noqa: RUF012

    def skip(self, V, loss, W, H):
        if self.solver in FITTING[loss]:
            return False, None
        return True, f"does not minimise {loss}"

    def set_objective(self, V, loss, W, H):
        self.V, self.loss, self.W, self.H = V, loss, W, H

    def warm_up(self):
        self.run_once(10)

    def run(self, iterations):
        self.result = self.W, self.H
        if iterations == 0:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = jaxnmf.factorize(
                self.V,
                self.W.shape[1],
                solver=self.solver,
                loss=self.loss,
                init=(self.W, self.H),
                max_iter=iterations,
                tol=0,
                kkt=False,
                record_every=iterations,
                progress=False,
            )
        self.result = found.W, found.H

    def get_result(self):
        W, H = self.result
        return {"W": W, "H": H}
