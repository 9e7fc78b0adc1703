"""jaxnmf: non-negative matrix factorisation in JAX, V ≈ W H with W, H ≥ 0.

>>> import numpy as np, jaxnmf
>>> V = np.random.default_rng(0).random((60, 40))
>>> result = jaxnmf.factorize(V, 5)
"""

from typing import TYPE_CHECKING, Any

from jaxnmf import distributed as distributed
from jaxnmf import solvers as solvers
from jaxnmf._version import __version__ as __version__
from jaxnmf.data.blocks import Blocks as Blocks
from jaxnmf.data.observed import Observed as Observed
from jaxnmf.data.views import Views as Views
from jaxnmf.factorize import factorize as factorize
from jaxnmf.fixed_point import fixed_point as fixed_point
from jaxnmf.fold_in import fit_W as fit_W
from jaxnmf.objective import losses as losses
from jaxnmf.objective.constraints import Box as Box
from jaxnmf.objective.constraints import NonNegative as NonNegative
from jaxnmf.objective.constraints import Simplex as Simplex
from jaxnmf.objective.graph import grid_graph as grid_graph
from jaxnmf.registry import register_loss as register_loss
from jaxnmf.registry import register_solver as register_solver
from jaxnmf.result import Result as Result
from jaxnmf.result import load as load
from jaxnmf.types import Status as Status
from jaxnmf.types import Trace as Trace
from jaxnmf.uncertainty.estimate import uncertainty as uncertainty
from jaxnmf.uncertainty.result import Uncertainty as Uncertainty

if TYPE_CHECKING:
    from jaxnmf import datasets as datasets
    from jaxnmf import plots as plots
    from jaxnmf import topics as topics
    from jaxnmf.estimators.function import (
        non_negative_factorization as non_negative_factorization,
    )
    from jaxnmf.estimators.minibatch import MiniBatchNMF as MiniBatchNMF
    from jaxnmf.estimators.nmf import NMF as NMF
    from jaxnmf.files.matrices import read as read
    from jaxnmf.selection import RankSelection as RankSelection
    from jaxnmf.selection import select_rank as select_rank
    from jaxnmf.sweeps.result import SweepResult as SweepResult
    from jaxnmf.sweeps.sweep import sweep as sweep
else:  # which a type checker would read as: there is every name
    # scikit-learn takes as long to import as all the rest, and one factorisation needs
    # neither it nor pictures, sweeps or data sets.
    _LATER = {
        "NMF": "jaxnmf.estimators.nmf",
        "MiniBatchNMF": "jaxnmf.estimators.minibatch",
        "non_negative_factorization": "jaxnmf.estimators.function",
        "plots": "jaxnmf.plots",
        "SweepResult": "jaxnmf.sweeps.result",
        "sweep": "jaxnmf.sweeps.sweep",
        "RankSelection": "jaxnmf.selection",
        "select_rank": "jaxnmf.selection",
        "datasets": "jaxnmf.datasets",
        "read": "jaxnmf.files.matrices",
        "topics": "jaxnmf.topics",
    }

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(_LATER[name])
        return getattr(module, name, module)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LATER})
