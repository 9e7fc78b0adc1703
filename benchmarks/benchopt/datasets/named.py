"""Data sets of jaxnmf by name, dense ones."""

from benchopt import BaseDataset

from jaxnmf import datasets


class Dataset(BaseDataset):
    """A data set of `jaxnmf list datasets`, such as cbcl_faces with JAXNMF_DATA set."""

    name = "named"
    requirements = ("pip::jaxnmf",)
    parameters = {  # noqa: RUF012
        "dataset, rank": [("digits", 16)],
    }

    def get_data(self):
        return {"V": datasets.load(self.dataset).V, "rank": self.rank}
