"""What each stage shows alone, and refined from it on."""

from collections.abc import Sequence

import pandas as pd

from refinecam.studies.base import Findings, Needs, Study
from refinecam.studies.figures import lines
from refinecam.studies.tables import EMPTY, described, images_by_methods, parts, scored

CAMS = ("GradCAM++", "LayerCAM")
STAGES = (0, 1, 2, 3)
SCORES = ("arcc", "road", "cosine_similarity")


def needs(presets: Sequence[str]) -> Needs:
    """Two CAMs at four stages, the deepest by the name that other studies give it."""
    methods = [f"{cam}(stage={stage})" for cam in CAMS for stage in STAGES[:-1]]
    methods += [f"RefineCAM({cam}, stage={stage})" for cam in CAMS for stage in STAGES[:-1]]
    return dict.fromkeys(("shapes", "imagenet"), ([*methods, *CAMS], ()))


def find(rows: pd.DataFrame) -> Findings:
    """Scores by stage; refined from the deepest stage on a map is that stage's."""
    table = []
    for (data, network), own in parts(rows, "data", "network"):
        for score in scored(own, SCORES):
            for cam in CAMS:
                alone = [f"{cam}, stage {stage if stage < STAGES[-1] else -1}" for stage in STAGES]
                onward = [f"RefineCAM({cam}), stage {stage}, product" for stage in STAGES[:-1]] + alone[-1:]
                for kind, titles in (("alone", alone), ("refined from it", onward)):
                    columns = images_by_methods(own, score, titles, EMPTY[score]).T
                    for stage, column in zip(STAGES, columns, strict=True):
                        named = {"data": data, "network": network, "score": score, "cam": cam, "kind": kind}
                        table.append(described(column, **named, stage=stage))
    whole = pd.DataFrame(table)
    figures = {
        f"stages-{data}-{network}": lines(own, f"{data}, {network}: mean over images, 95% interval")
        for (data, network), own in parts(whole, "data", "network")
    }
    return Findings({"stages": whole}, figures, [])


STUDY = Study("stages", "What does each stage show, alone and refined from it?", needs, find)
