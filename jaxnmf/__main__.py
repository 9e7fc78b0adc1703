"""`python -m jaxnmf …`, the same as `jaxnmf …`."""

import sys

from jaxnmf.experiment.cli import main

if __name__ == "__main__":
    sys.exit(main())
