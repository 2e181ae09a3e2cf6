from unittest import mock

import numpy as np
import pytest
import torch
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve

from refinecam import imputation
from refinecam.imputation import impute

NEIGHBORS = {(i, j): 1 / 6 if i == 0 or j == 0 else 1 / 12 for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j}


def direct_solution(image: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """The definition, pixel by pixel, solved directly in float64."""
    rows = {tuple(p): k for k, p in enumerate(np.argwhere(missing))}
    system, right = lil_matrix((len(rows), len(rows))), np.zeros((len(rows), image.shape[0]))
    for (y, x), k in rows.items():
        for (dy, dx), weight in NEIGHBORS.items():
            place = (y + dy, x + dx)
            if not (0 <= place[0] < missing.shape[0] and 0 <= place[1] < missing.shape[1]):
                continue
            system[k, k] += weight
            if place in rows:
                system[k, rows[place]] -= weight
            else:
                right[k] += weight * image[:, place[0], place[1]]
    filled = image.astype(np.float64).copy()
    if rows:
        filled[:, missing] = np.atleast_2d(spsolve(system.tocsr(), right).T.reshape(image.shape[0], -1))
    return filled


def holes(kind: str, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    missing = torch.zeros(height, width, dtype=torch.bool)
    if kind == "scattered":
        missing = torch.rand(height, width, generator=generator) < 0.6
    elif kind == "blob":  # one hole over about 80%
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        missing = x.abs() ** 3 + y.abs() ** 3 < 0.93
    elif kind == "border":
        missing[: height // 2] = True
        missing[:, : width // 3] = True
    elif kind == "all but one":
        missing[:] = True
        missing[height // 3, width // 2] = False
    elif kind == "all but two":
        missing[:] = True
        missing[1, 1] = missing[-2, -3] = False
    elif kind == "rectangles":
        missing[2:9, 3:20] = True
        missing[height // 2 : -1, width // 2 : -3] = True
    return missing


def iterations(images: torch.Tensor, missing: torch.Tensor) -> int:
    """How often the fine grid is smoothed before and after its coarser ones."""
    with mock.patch.object(imputation, "_v_cycle", wraps=imputation._v_cycle) as cycle:
        impute(images, missing)
    return sum(call.args[0].shape[2:] == images.shape[2:] for call in cycle.call_args_list)


@pytest.mark.parametrize("kind", ["scattered", "blob", "border", "all but one", "all but two", "rectangles", "nothing"])
@pytest.mark.parametrize("shape", [(32, 32), (47, 61)])
def test_equals_the_direct_solution(kind, shape):
    image = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    missing = holes(kind, *shape)
    expected = direct_solution(image.numpy(), missing.numpy())
    filled = impute(image[None], missing[None, None])[0]
    np.testing.assert_allclose(filled.numpy(), expected, atol=1e-4)


def test_equals_the_direct_solution_at_full_size():
    image = torch.randn(1, 160, 160, generator=torch.Generator().manual_seed(0))
    missing = holes("blob", 160, 160)
    expected = direct_solution(image.numpy(), missing.numpy())
    np.testing.assert_allclose(impute(image[None], missing[None, None])[0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(7, 250), (200, 16), (1, 120)])
def test_thin_images_are_solved_too(shape):
    """With nothing known but the two ends, the most that one can ask of the coarser grids."""
    missing = torch.ones(shape, dtype=torch.bool)
    missing[0, 0] = missing[-1, -1] = False
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    expected = direct_solution(image.numpy(), missing.numpy())
    np.testing.assert_allclose(impute(image[None], missing[None, None])[0].numpy(), expected, atol=1e-4)
    assert iterations(image[None], missing[None, None]) < 40


def test_what_is_not_solved_is_reported(monkeypatch):
    monkeypatch.setattr(imputation, "MAX_ITERATIONS", 2)
    with pytest.warns(UserWarning, match="impute: not solved to 2e-06 after 2 iterations"):
        impute(torch.randn(1, 1, 32, 32), holes("blob", 32, 32)[None, None])


@pytest.mark.parametrize("kind", ["scattered", "blob"])
def test_iterations_do_not_grow_with_the_resolution(kind):
    steps = [iterations(torch.randn(1, 3, side, side), holes(kind, side, side)[None, None]) for side in (56, 112, 448)]
    assert max(steps) <= min(steps) + 2
    assert max(steps) <= 12


def test_images_may_ask_for_gradients_and_the_batch_may_be_empty():
    images = torch.randn(1, 3, 16, 16)
    missing = holes("rectangles", 16, 16)[None, None]
    expected = impute(images, missing)
    assert torch.equal(impute(images.clone().requires_grad_(), missing), expected)
    with torch.inference_mode():
        assert torch.equal(impute(images, missing), expected)
    assert impute(images[:0], missing[:0]).shape == (0, 3, 16, 16)


def test_batch_equals_its_images():
    images = torch.randn(4, 3, 40, 33, generator=torch.Generator().manual_seed(0))
    missing = torch.stack([holes(kind, 40, 33) for kind in ("scattered", "blob", "nothing", "all but one")])[:, None]
    together = impute(images, missing)
    alone = torch.cat([impute(images[i : i + 1], missing[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_what_lies_in_the_holes_does_not_matter():
    images = torch.randn(1, 3, 16, 16)
    missing = holes("rectangles", 16, 16)[None, None]
    assert torch.equal(impute(images, missing), impute(images.masked_fill(missing, torch.nan), missing))


def test_nothing_known_gives_zero():
    images = torch.randn(2, 3, 8, 8)
    missing = torch.stack([torch.ones(1, 8, 8), torch.zeros(1, 8, 8)]).bool()
    filled = impute(images, missing)
    assert filled[0].abs().max() == 0
    assert torch.equal(filled[1], images[1])


@pytest.mark.parametrize(
    ("image", "missing", "message"),
    [
        (torch.zeros(3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.bool), "images: expected a float tensor"),
        (
            torch.zeros(1, 3, 8, 8),
            torch.zeros(1, 1, 8, 9, dtype=torch.bool),
            "missing: expected a bool tensor",
        ),
        (torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8), "missing: expected a bool tensor"),
    ],
)
def test_bad_input(image, missing, message):
    with pytest.raises(ValueError, match=message):
        impute(image, missing)
