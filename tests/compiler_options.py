"""The compiler's options of the tests' programs, and of those that users run."""

from importlib.metadata import version
from typing import Any

# jaxlib 0.11 has neither the older emitters nor the option.
_older_emitters = tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11)

# A program is compiled for a fifth of the usual time: LLVM does not optimise, and XLA
# writes the whole module as one piece, by its older emitters where it has them.
QUICK: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
    **({"xla_cpu_use_fusion_emitters": False} if _older_emitters else {}),
}
AS_USERS_RUN: dict[str, Any] = {
    "xla_backend_optimization_level": 3,
    "xla_cpu_parallel_codegen_split_count": 32,
    **({"xla_cpu_use_fusion_emitters": True} if _older_emitters else {}),
}
