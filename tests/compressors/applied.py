"""A recipe applied step by step, without a search."""

from compressors.context import Context
from compressors.graph import trace
from compressors.recipe import Recipe
from compressors.scoring import scores_of
from compressors.targets.onnxruntime import OnnxRuntime


def applied(recipe, model, inputs, graph=None):
    """The recipe's model, the graph and the shapes that it was priced by."""
    graph = graph or trace(model, inputs)
    steps = Recipe.from_plain(recipe)
    edits = steps.plan(graph, {name: scores_of(model, graph, name, None) for name in steps.criteria()})
    context, smaller = Context(None, model, graph, inputs, OnnxRuntime()), model
    for step, edit in zip(steps.steps, edits, strict=True):
        smaller = step.apply(smaller, edit, context)
    return smaller, graph, edits[-1].shapes(graph)
