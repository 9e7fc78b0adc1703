"""The solvers, one file a family. ``jaxnmf.solvers()`` lists their names.

Every module of this folder is imported, and each registers its solvers: a new one is a
new file. Their classes are attributes of this package, such as ``jaxnmf.solvers.HALS``.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from jaxnmf._util.callable import make_callable
from jaxnmf.registry import built_in_solvers
from jaxnmf.registry import solvers as _names
from jaxnmf.solvers.base import ANY as ANY
from jaxnmf.solvers.base import BETA as BETA
from jaxnmf.solvers.base import KL as KL
from jaxnmf.solvers.base import QUADRATIC as QUADRATIC
from jaxnmf.solvers.base import Alternating as Alternating
from jaxnmf.solvers.base import Solver as Solver
from jaxnmf.solvers.base import Supports as Supports

for _module in pkgutil.iter_modules(__path__):  # sorted by name
    importlib.import_module(f"{__name__}.{_module.name}")
globals().update({cls.__name__: cls for cls in built_in_solvers()})
make_callable(__name__, _names)

if TYPE_CHECKING:  # the classes that follow from the files

    def __getattr__(name: str) -> Any: ...
