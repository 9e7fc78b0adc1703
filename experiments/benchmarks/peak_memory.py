"""Peak memory of a fit over V and its factors, in fresh processes.

What the process holds at its peak above what it held before the call, divided by the
bytes of V and the factors in float32. A NumPy V is copied once to the device (which
is the 1 in the figure); a JAX array is not.
"""

from __future__ import annotations

import subprocess
import sys

CHILD = """
import sys
import jax, numpy as np, jaxnmf

def status(key):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(key):
                return int(line.split()[1]) * 1024

solver, loss, kind = sys.argv[1:]
m, n, p = 20000, 5000, 20
small = np.ones((64, 32), np.float32)
jaxnmf.factorize(small, 3, solver=solver, loss=loss, max_iter=11)
if kind == "jax":
    V = jax.block_until_ready(jax.random.uniform(jax.random.key(0), (m, n)))
else:
    V = np.random.default_rng(0).random((m, n), dtype=np.float32)
before = status("VmRSS")
with open("/proc/self/clear_refs", "w") as file:  # resets the peak
    file.write("5")
jaxnmf.factorize(V, p, solver=solver, loss=loss, max_iter=11)
extra = status("VmHWM") - before
held = 4 * (m * n + (m + n) * p)
print(f"{solver:6} {loss:18} V as {kind:6} {extra / held:6.2f} x (V + factors) on top")
"""


def main() -> None:
    for solver, loss in (("hals", "frobenius"), ("pgd", "frobenius"), ("mu", "kl")):
        for kind in ("numpy", "jax"):
            command = [sys.executable, "-c", CHILD, solver, loss, kind]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
