"""Types of arrays with shapes in jaxtyping's notation, as ``Float[Array, "p m"]``.

They are for readers and type checkers. Where jaxtyping was imported before, as in the
tests, calls are checked against them; elsewhere they are plain annotations, and
`import jaxnmf` is spared the import of jaxtyping, some 20 ms.
"""

import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Array as Array
    from jaxtyping import Bool as Bool
    from jaxtyping import Float as Float
    from jaxtyping import Int as Int
    from jaxtyping import PyTree as PyTree
else:
    from jax import Array as Array

    Bool = Float = Int = Annotated
    PyTree = Collection
