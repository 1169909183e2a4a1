"""How good a model is, by the protocols of the paper (Sec. 4.1)."""

from gaitedge.evaluation.evaluating import Walks, evaluate, evaluate_embeddings
from gaitedge.evaluation.results import Evaluation
from gaitedge.evaluation.scoring import rank1

__all__ = ["Evaluation", "Walks", "evaluate", "evaluate_embeddings", "rank1"]
