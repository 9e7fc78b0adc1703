"""The time of `import jaxnmf` over that of `import jax, optax`, in fresh processes."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numpy as np
from common import alternate


def start(statement: str) -> None:
    subprocess.run([sys.executable, "-c", statement], check=True)


def main(repeats: int = 9) -> None:
    peers = ("import jax, optax", "import jaxnmf")
    seconds = alternate(repeats, *(partial(start, peer) for peer in peers))
    theirs, ours = (float(np.median(s)) for s in seconds)
    print(f"{peers[0]} {theirs:.3f} s, {peers[1]} {ours:.3f} s: {ours / theirs:.2f}")


if __name__ == "__main__":
    main(*(int(x) for x in sys.argv[1:]))
