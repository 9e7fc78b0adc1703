"""The solvers, one file a family. ``jaxnmf.solvers()`` lists their names."""

from jaxnmf._util.callable import make_callable
from jaxnmf.registry import solvers as _names
from jaxnmf.solvers.admm import ALS as ALS
from jaxnmf.solvers.admm import AOADMM as AOADMM
from jaxnmf.solvers.ard import ARD as ARD
from jaxnmf.solvers.base import ANY as ANY
from jaxnmf.solvers.base import BETA as BETA
from jaxnmf.solvers.base import KL as KL
from jaxnmf.solvers.base import QUADRATIC as QUADRATIC
from jaxnmf.solvers.base import Alternating as Alternating
from jaxnmf.solvers.base import Solver as Solver
from jaxnmf.solvers.base import Supports as Supports
from jaxnmf.solvers.bpp import ANLSBPP as ANLSBPP
from jaxnmf.solvers.ccd import CCD as CCD
from jaxnmf.solvers.compressed import Compressed as Compressed
from jaxnmf.solvers.constrained import Orthogonal as Orthogonal
from jaxnmf.solvers.constrained import Smooth as Smooth
from jaxnmf.solvers.constrained import SparseHoyer as SparseHoyer
from jaxnmf.solvers.coordinate import GCD as GCD
from jaxnmf.solvers.extrapolated import Extrapolated as Extrapolated
from jaxnmf.solvers.hals import HALS as HALS
from jaxnmf.solvers.kl import KLCoordinateDescent as KLCoordinateDescent
from jaxnmf.solvers.kl import ScalarNewtonMU as ScalarNewtonMU
from jaxnmf.solvers.kl_admm import KLADMM as KLADMM
from jaxnmf.solvers.kl_first_order import KLMirror as KLMirror
from jaxnmf.solvers.kl_newton import KLNewton as KLNewton
from jaxnmf.solvers.minvol import MinVol as MinVol
from jaxnmf.solvers.mu import MU as MU
from jaxnmf.solvers.mu_extrapolated import ExtrapolatedMU as ExtrapolatedMU
from jaxnmf.solvers.mu_overrelaxed import OverrelaxedMU as OverrelaxedMU
from jaxnmf.solvers.nesterov import NeNMF as NeNMF
from jaxnmf.solvers.online import MinibatchMU as MinibatchMU
from jaxnmf.solvers.online import OnlineHALS as OnlineHALS
from jaxnmf.solvers.optax import Optax as Optax
from jaxnmf.solvers.palm import IPALM as IPALM
from jaxnmf.solvers.palm import PALM as PALM
from jaxnmf.solvers.pgd import PGD as PGD
from jaxnmf.solvers.pgd_bb import SpectralPGD as SpectralPGD
from jaxnmf.solvers.pgd_lin import LinPGD as LinPGD
from jaxnmf.solvers.semi import ConvexNMF as ConvexNMF
from jaxnmf.solvers.semi import SemiNMF as SemiNMF
from jaxnmf.solvers.symmetric import SymmetricNMF as SymmetricNMF

make_callable(__name__, _names)
