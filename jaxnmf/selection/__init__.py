"""How many components: `select_rank`, one file a method."""

from jaxnmf.selection.base import RankSelection as RankSelection
from jaxnmf.selection.choose import METHODS as METHODS
from jaxnmf.selection.choose import select_rank as select_rank
