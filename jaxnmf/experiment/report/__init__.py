"""Reports of a study: the page and the table on the terminal."""

from jaxnmf.experiment.report.choices import choices_table
from jaxnmf.experiment.report.contents import merged
from jaxnmf.experiment.report.page import build_report
from jaxnmf.experiment.report.settings import sensitivity_table
from jaxnmf.experiment.report.statistics import (
    comparison_table,
    curves,
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
