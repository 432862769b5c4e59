"""A traced model as text: what prices candidates of it without the model and without torch."""

from __future__ import annotations

from functools import cache

import pydantic

from compressors.errors import UserError
from compressors.graph.model_graph import ModelGraph

__all__ = ["graph_json", "read_graph"]


@cache
def _adapter() -> pydantic.TypeAdapter[ModelGraph]:
    return pydantic.TypeAdapter(ModelGraph)


def graph_json(graph: ModelGraph) -> str:
    """JSON that ``read_graph`` reads back."""
    return _adapter().dump_json(graph, exclude={"_index"}).decode()


def read_graph(text: str | bytes, source: str = "graph") -> ModelGraph:
    """The graph, equal to the one that was written.

    Raises:
        UserError: ``source`` does not hold one.
    """
    try:
        return _adapter().validate_json(text)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{source} is not a traced model ({'.'.join(map(str, first['loc']))}: {first['msg']})") from error
