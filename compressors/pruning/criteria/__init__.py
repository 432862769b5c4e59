"""Pruning criteria: how important a unit is."""

from compressors.pruning.criteria.activation import Activation
from compressors.pruning.criteria.bn_scale import BatchNormScale
from compressors.pruning.criteria.criterion import Criterion, Loss, UnitScores
from compressors.pruning.criteria.l1 import L1
from compressors.pruning.criteria.l2 import L2
from compressors.pruning.criteria.random import Random
from compressors.pruning.criteria.taylor import Taylor

__all__ = ["CRITERIA", "L1", "L2", "Activation", "BatchNormScale", "Criterion", "Loss", "Random", "Taylor", "UnitScores"]

CRITERIA: dict[str, Criterion] = {criterion.name: criterion for criterion in (L1(), L2(), BatchNormScale(), Taylor(), Activation(), Random())}
"""The criteria by the name that recipes use."""
