"""What a model's outputs mean: the loss that goes with them."""

from evaluators.tasks.heads.classification import Classification
from evaluators.tasks.heads.head import Head
from evaluators.tasks.heads.image_to_image import ImageToImage
from evaluators.tasks.heads.multi_label import MultiLabel
from evaluators.tasks.heads.regression import Regression
from evaluators.tasks.heads.token_classification import TokenClassification

__all__ = ["Classification", "Head", "ImageToImage", "MultiLabel", "Regression", "TokenClassification", "head_of"]


def head_of(kind: str) -> Head:
    """The head of a kind, which is the end of a task's name."""
    heads: tuple[type[Head], ...] = (Classification, ImageToImage, MultiLabel, Regression, TokenClassification)
    return next(head for head in heads if head.kind == kind)()
