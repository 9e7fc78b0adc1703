"""Baselines: solvers of other packages behind one interface, one file per package.

``jaxnmf.baselines.names()`` lists them; `timed` runs one under the same clock, stop
rule and records as `jaxnmf.run.clock.timed` runs a solver of jaxnmf.
"""

from jaxnmf.baselines.base import Baseline as Baseline
from jaxnmf.baselines.base import baseline_class as baseline_class
from jaxnmf.baselines.base import make as make
from jaxnmf.baselines.base import names as names
from jaxnmf.baselines.base import register_baseline as register_baseline
from jaxnmf.baselines.base import timed as timed
from jaxnmf.baselines.nimfa import NimfaLSNMF as NimfaLSNMF
from jaxnmf.baselines.nimfa import NimfaNMF as NimfaNMF
from jaxnmf.baselines.nmf_rs import NMFRSHALS as NMFRSHALS
from jaxnmf.baselines.nmf_rs import NMFRSMU as NMFRSMU
from jaxnmf.baselines.nmf_torch import NMFTorchBPP as NMFTorchBPP
from jaxnmf.baselines.nmf_torch import NMFTorchHALS as NMFTorchHALS
from jaxnmf.baselines.nmf_torch import NMFTorchMU as NMFTorchMU
from jaxnmf.baselines.numpy_hals import NumPyHALS as NumPyHALS
from jaxnmf.baselines.pyplanc import PyPLANCBPP as PyPLANCBPP
from jaxnmf.baselines.pyplanc import PyPLANCHALS as PyPLANCHALS
from jaxnmf.baselines.scikit_learn import SklearnCD as SklearnCD
from jaxnmf.baselines.scikit_learn import SklearnMU as SklearnMU
from jaxnmf.baselines.torchnmf import TorchNMF as TorchNMF
