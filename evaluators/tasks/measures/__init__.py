"""Metrics as what each example contributes to them, so that intervals and paired comparisons are of one form for all (see ``jackknife``)."""

from evaluators.tasks.measures.measuring import Measure, measures_of

__all__ = ["Measure", "measures_of"]
