"""From the tables of evaluations to the paper's figures and tables: each study is one file."""

from refinecam.studies import activations, aggregators, correlation, qualitative, refine, sensitivity, stages, trivial
from refinecam.studies.base import Claim, Findings, Study

STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (trivial, correlation, refine, aggregators, stages, activations, qualitative, sensitivity)
}
"""Every study by its name."""

__all__ = ["STUDIES", "Claim", "Findings", "Study"]
