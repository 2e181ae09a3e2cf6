"""Filling missing pixels with the weighted mean of their neighbors, for a whole batch at once.

The linear system of ROAD's imputation (Rong et al., ICML 2022) is homogeneous diffusion inpainting. It is solved
by conjugate gradients with a multigrid V-cycle as preconditioner: a handful of iterations whatever the size and
shape of the holes, in tensor operations on the images' device.
"""

from warnings import warn

import torch
import torch.nn.functional as F
from torch import Tensor

from refinecam.core.checks import check_input, check_tensor
from refinecam.core.errors import InputError

TOLERANCE = 2e-6
MAX_ITERATIONS = 100
COARSEST = 8
PULL = 0.6
"""Weight of known cells inside of coarse ones that are solved for, found by trial: it takes the fewest iterations, for
holes in one piece as for scattered pixels."""
CACHED_VALUES = 2**19
"""How many values a CPU solves for at once: what stays in its cache is several times faster."""
BOUNDED_VALUES = 2**25
"""The same elsewhere, where memory is the bound: about 20 times as many are held."""

SELDOM = 4
"""Iterations after which a device is asked whether it is done: each time the CPU waits for it."""

Thirds = tuple[Tensor, Tensor, Tensor]


@torch.no_grad()
def impute(images: Tensor, missing: Tensor) -> Tensor:
    r"""Replace each missing pixel by the weighted mean of its 8 neighbors, solved jointly for all of them.

    The weights are 1/6 for direct and 1/12 for diagonal neighbors; neighbors outside the image drop out and the
    others are renormalized. For a missing pixel i, with J the neighbors inside the image:

    .. math:: \sum_{j \in J} w_{ij} x_i = \sum_{j \in J} w_{ij} x_j

    Args:
        images: shape (N, C, H, W), floating point.
        missing: bool, shape (N, 1, H, W), True where the pixel is to be filled. What lies there is ignored.

    Returns:
        Filled images, shape (N, C, H, W). An image without any known pixel becomes 0 everywhere.

    Raises:
        InputError: if the shapes do not belong together or ``missing`` is not bool.
    """
    check_input(images, None)
    check_tensor("missing", missing, "bool tensor (N, 1, H, W)")
    expected = (len(images), 1, *images.shape[2:])
    if missing.dtype != torch.bool or missing.shape != expected:
        raise InputError(f"missing: expected a bool tensor {expected}, got {missing.dtype} {tuple(missing.shape)}")
    values = CACHED_VALUES if images.device.type == "cpu" else BOUNDED_VALUES
    size = max(1, values // max(1, images[:1].numel()))
    return torch.cat([_impute(*part) for part in zip(images.split(size), missing.split(size), strict=True)])


def _impute(images: Tensor, missing: Tensor) -> Tensor:
    known = ~missing
    # Only differences to the mean of the known pixels are solved for: a constant surrounding is then exact at once.
    values = images.float().masked_fill(missing, 0)
    mean = values.sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp(min=1)
    contrast = (values - mean).masked_fill(missing, 0)
    grids = _grids(missing & known.any(-1, keepdim=True).any(-2, keepdim=True), images.shape[1])
    filled = mean + _solve(contrast, grids)
    return torch.where(missing, filled.to(images.dtype), images)


class _Grid:
    """The system on one grid, times 12, with the memory that its solution needs.

    Fresh memory costs more than the arithmetic, so every step writes into what is here. Views are made once, too: on
    small grids making them takes as long as using them.

    Attributes:
        unknown: 1 where a cell is to be solved for, 0 elsewhere, shape (N, 1, h, w).
        pull: what known fine cells inside of a cell add to its diagonal, same shape.
        whole: the diagonal, and 4 for the cell itself, which :func:`_box` counts, shape (1 or N, 1, h, w).
        inverse: 1 over the diagonal on unknown cells, 0 elsewhere, damped where the method needs it.
        padded: the current solution with a border of zeros, shape (N, C, h + 2, w + 2); ``x`` is its inside,
            ``rows_of_x`` its rows one higher, in place and one lower, ``borders`` its sides and the values beside them.
        right: the right-hand side, shape (N, C, h, w).
        rest: what is left of it, same shape, inside of a tensor of even sides that :meth:`correct` borrows; ``beyond``
            are the zeros that make them even, ``even_rows`` and ``even_columns`` its rows and columns by parity.
        rows: sums of rows on the way to the stencil's, ``columns`` its columns; ``halved`` and ``tall_rows`` likewise
            on the way to a coarser grid and back.
    """

    def __init__(self, unknown: Tensor, channels: int, pull: Tensor | None = None) -> None:
        count, _, height, width = unknown.shape
        self.unknown = unknown
        self.pull = torch.zeros_like(unknown) if pull is None else pull
        self.padded = unknown.new_zeros(count, channels, height + 2, width + 2)
        self.x, self.rows_of_x = self.padded[..., 1:-1, 1:-1], _thirds(self.padded, 2)
        ends = [(dim, border, edge) for dim in (2, 3) for border, edge in ((0, 1), (-1, -2))]
        self.borders = [(self.padded.select(dim, i), self.padded.select(dim, j)) for dim, i, j in ends]
        self.rows = unknown.new_empty(count, channels, height, width + 2)
        self.columns = _thirds(self.rows, 3)
        even = unknown.new_zeros(count, channels, height + height % 2, width + width % 2)
        self.rest, self.beyond = even[..., :height, :width], (even[..., height:, :], even[..., width:])
        self.even_rows, self.even_columns = (even[..., ::2, :], even[..., 1::2, :]), (even[..., ::2], even[..., 1::2])
        self.halved = unknown.new_empty(count, channels, even.shape[2] // 2, even.shape[3])
        self.halved_columns = self.halved[..., ::2], self.halved[..., 1::2]
        tall = unknown.new_empty(count, channels, even.shape[2], even.shape[3] // 2 + 2)
        self.tall_rows, self.tall_columns = (tall[..., ::2, :], tall[..., 1::2, :]), _thirds(tall, 3)
        self.right = unknown.new_empty(count, channels, height, width)
        whole = _box(torch.ones_like(unknown[:1]))
        self.whole = whole if pull is None else whole + pull
        # A 1 x 1 grid has no neighbors; its diagonal is never used, only kept from dividing by zero.
        self.inverse = unknown / (self.whole - 4).clamp(min=1e-6)
        if 1 in (height, width):
            self.inverse *= 2 / 3  # on a line Jacobi's method has to be damped

    def coarser(self) -> "_Grid":
        """The grid of half the size. A cell is unknown where half of its fine cells are, or more.

        The known ones among them hold it back, by their weights in the equations of their unknown neighbors.
        """
        shares = F.avg_pool2d(self.unknown, 2, ceil_mode=True, count_include_pad=False)
        unknown = (shares >= 0.5).float()
        height, width = self.unknown.shape[2:]
        enlarged = unknown.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :height, :width]
        pull = (self.pull + PULL * _box(enlarged * (1 - self.unknown))) * self.unknown
        pull = F.avg_pool2d(pull, 2, ceil_mode=True, divisor_override=1)
        return _Grid(unknown, self.x.shape[1], pull * unknown)

    def minus_apply(self, inside: Tensor, rows_of: Thirds, out: Tensor) -> Tensor:
        """Minus the system's matrix times the inside of a padded tensor, of which the three shifted rows are given."""
        _box_into(rows_of, self.rows, self.columns, out)
        return out.addcmul_(inside, self.whole, value=-1).mul_(self.unknown)

    def update_rest(self, right: Tensor) -> Tensor:
        """What is left of ``right`` after the current solution."""
        return self.minus_apply(self.x, self.rows_of_x, self.rest).add_(right)

    def smooth(self, right: Tensor) -> None:
        """One step of Jacobi's method, which in two dimensions is best undamped for this stencil."""
        self.x.addcmul_(self.update_rest(right), self.inverse)

    def restrict(self, out: Tensor) -> Tensor:
        """Sums of ``rest`` over the cells of the coarser grid; a single row counts twice, as if there were two."""
        torch.add(*self.even_rows, out=self.halved)
        torch.add(*self.halved_columns, out=out)
        return out.mul_(2) if 1 in self.rest.shape[2:] else out

    def correct(self, coarse: "_Grid") -> None:
        """Add a coarser grid's solution, enlarged bilinearly; PyTorch's own enlarging takes several times as long."""
        for border, edge in coarse.borders:
            border.copy_(edge)
        _enlarge(coarse.rows_of_x, self.tall_rows)
        _enlarge(self.tall_columns, self.even_columns)
        self.x.addcmul_(self.rest, self.unknown, value=1 / 16)
        for border, _ in coarse.borders:
            border.zero_()
        for strip in self.beyond:
            strip.zero_()


def _thirds(x: Tensor, dim: int) -> Thirds:
    """Views without the last two, the first and the last, and the first two rows or columns."""
    length = x.shape[dim] - 2
    return x.narrow(dim, 0, length), x.narrow(dim, 1, length), x.narrow(dim, 2, length)


def _enlarge(thirds: Thirds, out: tuple[Tensor, Tensor]) -> None:
    """Four times the values half-way between cells, in one direction."""
    before, here, after = thirds
    torch.add(before, here, alpha=3, out=out[0])
    torch.add(after, here, alpha=3, out=out[1])


def _box(x: Tensor) -> Tensor:
    """[1,2,1] x [1,2,1], zeros outside: 12 times the weights of the neighbors, and 4 for the cell itself."""
    padded = F.pad(x, (1, 1, 1, 1))
    rows = torch.empty_like(padded[..., 1:-1, :])
    return _box_into(_thirds(padded, 2), rows, _thirds(rows, 3), torch.empty_like(x))


def _box_into(rows_of: Thirds, rows: Tensor, columns: Thirds, out: Tensor) -> Tensor:
    above, level, below = rows_of
    torch.add(above, below, out=rows).add_(level, alpha=2)
    left, middle, right = columns
    return torch.add(left, right, out=out).add_(middle, alpha=2)


def _grids(missing: Tensor, channels: int) -> list[_Grid]:
    """Fine to coarse, as long as there are unknown cells."""
    grids = [_Grid(missing.float(), channels)]
    while max(grids[-1].unknown.shape[2:]) >= COARSEST:
        coarser = grids[-1].coarser()
        if missing.device.type == "cpu" and not coarser.unknown.any():  # elsewhere the CPU would have to wait
            break
        grids.append(coarser)
    return grids


def _v_cycle(right: Tensor, grids: list[_Grid]) -> Tensor:
    """Approximate solution for ``right``: Jacobi smoothing on every grid.

    A grid without coarser ones is treated as if these had no unknown cells: the result for an image does not depend
    on how deep the grids of its companions in the batch go.
    """
    grid = grids[0]
    torch.mul(right, grid.inverse, out=grid.x)
    if len(grids) == 1:
        for _ in range(8 if max(right.shape[2:]) < COARSEST else 1):
            grid.smooth(right)
        return grid.x
    grid.update_rest(right)
    _v_cycle(grid.restrict(grids[1].right).mul_(grids[1].unknown), grids[1:])
    grid.correct(grids[1])
    grid.smooth(right)
    return grid.x


def _solve(known: Tensor, grids: list[_Grid]) -> Tensor:
    """Flexible preconditioned conjugate gradients, one system per image and channel.

    A converged system no longer moves, so that its solution does not depend on its companions in the batch.
    """
    grid = grids[0]
    scratch, product = torch.empty_like(known), torch.zeros_like(known)

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return torch.mul(a, b, out=scratch).sum((2, 3), keepdim=True)

    residual = _box(known).mul_(grid.unknown)
    x, direction = torch.zeros_like(residual), torch.zeros_like(grid.padded)
    inside, rows_of = direction[..., 1:-1, 1:-1], _thirds(direction, 2)
    square = dot(residual, residual)
    goal, step, scale = square * TOLERANCE**2, torch.zeros_like(square), torch.ones_like(square)
    every = 1 if known.device.type == "cpu" else SELDOM
    for iteration in range(MAX_ITERATIONS):
        active = square > goal
        if iteration % every == 0 and not active.any():
            break
        z = _v_cycle(residual, grids)
        # The residual last changed by step * product.
        inside.mul_(dot(z, product) * step / scale).add_(z)
        descent = dot(z, residual)
        grid.minus_apply(inside, rows_of, product)
        curvature = -dot(inside, product)
        active &= curvature > 0
        step = torch.where(active, descent / curvature, torch.zeros_like(descent))
        scale = torch.where(active, descent, torch.ones_like(descent))
        x.addcmul_(inside, step)
        residual.addcmul_(product, step)
        square = dot(residual, residual)
    if (square > goal).any():
        warn(f"impute: not solved to {TOLERANCE:g} after {MAX_ITERATIONS} iterations", stacklevel=4)
    return x
