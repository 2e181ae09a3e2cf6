"""Whether a CAM should weigh signed, rectified or centered activations, where no ReLU makes them positive."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from refinecam.studies.base import Claim, Findings, Needs, Study
from refinecam.studies.figures import bars
from refinecam.studies.statistics import mean_interval
from refinecam.studies.tables import EMPTY, described, images_by_methods, parts, scored

CAMS = ("GradCAM++", "LayerCAM")
KINDS = ("signed", "rectified", "centered")
SCORES = ("arcc", "cosine_similarity", "mass_accuracy")
PLACES = ("shallowest", "deepest", "refined")


def _cam(cam: str, kind: str) -> str:
    return cam if kind == KINDS[0] else f"{cam}(activations='{kind}')"


def needs(presets: Sequence[str]) -> Needs:
    """Both CAMs at both ends and refined, of each kind of activations."""
    cams = [_cam(cam, kind) for cam in CAMS for kind in KINDS]
    shallow = [f"{cam[:-1]}, stage=0)" if "(" in cam else f"{cam}(stage=0)" for cam in cams]
    methods = [*shallow, *cams, *(f"RefineCAM({cam}, aggregator='product')" for cam in cams)]
    return dict.fromkeys(("shapes", "imagenet"), (methods, ()))


def find(rows: pd.DataFrame) -> Findings:
    """Means of each map, and what other activations gain; a map that is 0 everywhere counts as 0."""
    table, claims = [], []
    for (data, network), own in parts(rows, "data", "network"):
        for score in scored(own, SCORES):
            for cam in CAMS:
                maps: dict[str, np.ndarray] = {}
                for kind in KINDS:
                    name = _cam(cam, kind)
                    titles = [f"{name}, stage 0", f"{name}, stage -1", f"RefineCAM({name}), stage 0, product"]
                    columns = images_by_methods(own, score, titles, EMPTY[score])
                    if not np.isfinite(columns).any():
                        continue
                    maps[kind] = columns
                    empty = own[own["title"].isin(titles) & own[score].isna()].groupby("title").size()
                    for title, shown, column in zip(titles, PLACES, columns.T, strict=True):
                        named = {"data": data, "network": network, "score": score, "map": f"{cam}, {shown}"}
                        row = described(column, **named, activations=kind)
                        table.append({**row, "empty": int(empty.get(title, 0))})
                claims += _claims(cam, score, f"{data}, {network}", maps)
    together = pd.DataFrame(table)
    figures = {
        f"activations-{data}-{network}-{score}": bars(
            own, "map", "activations", f"{data}, {network}: {score}, 95% interval"
        )
        for (data, network, score), own in parts(together, "data", "network", "score")
    }
    return Findings({"activations": together}, figures, claims)


def _claims(cam: str, score: str, where: str, maps: Mapping[str, np.ndarray]) -> list[Claim]:
    """What each other kind gains, of one CAM's maps at both ends and refined."""
    claims = []
    for kind in KINDS[1:] if KINDS[0] in maps else ():
        if kind not in maps:
            continue
        refined, (shallow, _, _) = maps[kind][:, 2], maps[kind].T
        _, deep, signed = maps[KINDS[0]].T
        for against, rival in (
            ("signed, refined as well", signed),
            ("signed, at the deepest stage", deep),
            (f"{kind}, at the shallowest stage alone", shallow),
        ):
            claims.append(
                Claim(
                    f"{kind} activations give a refined {cam} with a higher {score}",
                    f"refined {cam}, {kind}, minus {against}",
                    where,
                    mean_interval(refined - rival),
                )
            )
    return claims


STUDY = Study("activations", "Which activations should a CAM weigh, where no ReLU makes them positive?", needs, find)
