"""Planted factors with noise; no download."""

from benchopt import BaseDataset

from jaxnmf import datasets


class Dataset(BaseDataset):
    """W and H with gamma entries and Gaussian or Poisson noise."""

    name = "planted"
    requirements = ("pip::jaxnmf",)
    parameters = {  # noqa: RUF012
        "m, n, rank": [(200, 100, 5), (1000, 500, 10)],
        "noise": ["gaussian", "poisson"],
    }

    def get_data(self):
        options = {"m": self.m, "n": self.n, "rank": self.rank, "noise": self.noise}
        planted = datasets.load("synthetic", **options)
        return {"V": planted.V, "rank": self.rank}
