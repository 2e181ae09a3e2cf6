"""Table 1: is a refined CAM better than the CAM, at its shallowest and, beyond the paper, at its deepest stage?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from refinecam.studies.base import Claim, Findings, Needs, Study
from refinecam.studies.figures import bars
from refinecam.studies.methods import CAMS, refined, shallow
from refinecam.studies.statistics import compare, mean_interval
from refinecam.studies.tables import EMPTY, FUNNYBIRDS, images_by_methods, parts, scored

SCORES = ("arcc", FUNNYBIRDS, "cosine_similarity", "iou", "mass_accuracy", "pointing_game", "roc_auc")


def needs(presets: Sequence[str]) -> Needs:
    """Each CAM at both ends, and refined."""
    return dict.fromkeys(("shapes", "birds", "imagenet"), ([*shallow(), *CAMS, *refined()], ()))


def find(rows: pd.DataFrame) -> Findings:
    """Differences image by image, with how often the refined map wins; see :data:`.EMPTY` for maps without a score."""
    table, claims = [], []
    for (data, network), own in parts(rows, "data", "network"):
        for score in scored(own, SCORES):
            differences: dict[str, list[np.ndarray]] = {"shallowest": [], "deepest": []}
            for cam in CAMS:
                titles = {
                    "shallowest": f"{cam}, stage 0",
                    "deepest": f"{cam}, stage -1",
                    "refined": f"RefineCAM({cam}), stage 0, product",
                }
                columns = images_by_methods(own, score, list(titles.values()), EMPTY[score]).T
                values = dict(zip(titles, columns, strict=True))
                if not np.isfinite(values["refined"]).any():
                    continue
                for against, found in differences.items():
                    if not np.isfinite(values[against]).any():
                        continue
                    made, by = mean_interval(values["refined"]), compare(values["refined"], values[against])
                    found.append(values["refined"] - values[against])
                    table.append(
                        {
                            "data": data,
                            "network": network,
                            "score": score,
                            "cam": cam,
                            "against": against,
                            "base": np.nanmean(values[against]),
                            "base std": np.nanstd(values[against]),
                            "refined": made.value,
                            "refined std": np.nanstd(values["refined"]),
                            "difference": by.difference.value,
                            "low": by.difference.low,
                            "high": by.difference.high,
                            "wins": by.wins,
                            "p": by.p,
                            "images": by.difference.images,
                        }
                    )
            for against, found in differences.items():
                if found:
                    mean = np.mean(np.stack(found), axis=0)
                    claims.append(
                        Claim(
                            f"RefineCAM has a higher {score} than its CAM at the {against} stage",
                            f"mean over {len(found)} CAMs of refined minus {against}",
                            f"{data}, {network}",
                            mean_interval(mean),
                        )
                    )
    whole = pd.DataFrame(table)
    figures = {}
    for (data, network, score), own in parts(whole, "data", "network", "score"):
        shown = own.rename(columns={"difference": "mean", "cam": "method"})
        figures[f"refine-{data}-{network}-{score}"] = bars(
            shown, "method", "against", f"{data}, {network}: {score}, refined minus base, 95% interval"
        )
    return Findings({"refine": whole}, figures, claims)


STUDY = Study("refine", "Does refining make a CAM better? (Table 1)", needs, find)
