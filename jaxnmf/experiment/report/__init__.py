"""The report of a study: the page, and its tables on the terminal.

The page is made in this order, a module for each step:

- `contents`: the jobs of the folders, and the tables of their runs, which `statistics`
  (comparison, quality, predictions), `convergence` (curves) and `traces` compute;
- `profiles`, `significance`, `choices`, `settings`: a section each, shown if the jobs
  have something for it; `problems`: the part on each data set and loss;
- `sentences` and `words`: results as sentences, numbers and lists as text;
- `tables`: headings, formats and bold cells, for HTML, LaTeX and the terminal;
- `provenance`: the jobs, machines and versions behind the results;
- `page`: fills the templates (``*.html.j2``); `files`: writes the page, the CSV files
  and, if asked for, figures and LaTeX. `terminal` prints the tables.
"""

from jaxnmf.experiment.report.choices import choices_table
from jaxnmf.experiment.report.contents import merged
from jaxnmf.experiment.report.convergence import curves
from jaxnmf.experiment.report.page import build_report
from jaxnmf.experiment.report.settings import sensitivity_table
from jaxnmf.experiment.report.statistics import (
    comparison_table,
    gather,
    prediction_table,
)
from jaxnmf.experiment.report.terminal import (
    print_choices,
    print_predictions,
    print_sensitivity,
    print_table,
)

__all__ = [
    "build_report",
    "choices_table",
    "comparison_table",
    "curves",
    "gather",
    "merged",
    "prediction_table",
    "print_choices",
    "print_predictions",
    "print_sensitivity",
    "print_table",
    "sensitivity_table",
]
