"""What a recipe with ``input_size`` runs on: model, data and trace at a smaller size, each made once a process."""

from __future__ import annotations

import dataclasses

from compressors.errors import CompressionError
from compressors.input_size import InputSize
from compressors.recipe import Recipe
from compressors.sizing import Sizing
from evaluators.models import model_fingerprint
from search.cache import Cache
from search.preparing import Prepared
from search.size_traces import traced_at

__all__ = ["Sized"]


class Sized:
    """Makes ready what each size of inputs needs.

    Args:
        prepared: at the data's size.
        cache: traces at other sizes are kept in it.
    """

    def __init__(self, prepared: Prepared, cache: Cache) -> None:
        self._prepared, self._cache = prepared, cache
        self._known: dict[InputSize, Prepared | CompressionError] = {}
        self._made: dict[Sizing, Prepared] = {}

    def of(self, recipe: Recipe) -> Prepared:
        """What ``recipe`` runs on: ``prepared`` itself where its inputs have the data's size.

        Raises:
            CompressionError: a size that the data or the model cannot have.
        """
        step = recipe.input_size
        if step is None:
            return self._prepared
        if step not in self._known:
            try:
                self._known[step] = self._at(step)
            except CompressionError as error:
                self._known[step] = error
        found = self._known[step]
        if isinstance(found, CompressionError):
            raise found
        return found

    def _at(self, step: InputSize) -> Prepared:
        p = self._prepared
        sizing = p.task.sizing_of(step)
        if sizing is None:
            return p
        if sizing not in self._made:
            model, task = step.resized(p.model, sizing).eval(), p.task.at(sizing)
            graph = traced_at(step, sizing, model, task.example_inputs, p.graph, self._cache)
            key = model_fingerprint(model)
            self._made[sizing] = dataclasses.replace(p, model=model, task=task, graph=graph, model_key=key, data_key=task.fingerprint, native=p)
        return self._made[sizing]
