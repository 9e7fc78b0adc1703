#!/usr/bin/env bash
# Measures jaxnmf on the accelerator of this machine, in under nine minutes on one GPU.
#
#   experiments/accelerator/measure.sh FOLDER [--small] [--parts NAME …]
#
# Needs Python 3.12 with jax 0.11 or newer for the accelerator, NumPy, SciPy, scikit-learn
# and optax; no network. PyTorch and torchnmf are compared where they are
# installed. JAXNMF_DATA names the folder of research data sets.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD:$PWD/experiments/accelerator${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1 XLA_PYTHON_CLIENT_MEM_FRACTION=.45
exec python3 experiments/accelerator/measure.py "$@"
