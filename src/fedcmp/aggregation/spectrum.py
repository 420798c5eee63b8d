"""The canonical basis of many matrices from one running sum, without their K-wide SVD.

    J = [X_1 | ... | X_K] = U S [V_1^T | ... | V_K^T]      has      G = sum_k X_k X_k^T = U S^2 U^T
so U and S come from one (O, O) eigenproblem, whose cost does not depend on K.  The same road leads to the leading part
of one matrix's SVD, to its polar factor, and to a quotient by a Gram matrix.
Implements docs/methods.md, Fed-CMP, by sums; the merging rules use it too.
Shapes: K clients, O outputs, I inputs, R kept directions.
"""

from dataclasses import dataclass
from itertools import pairwise

import scipy.linalg  # type: ignore[import-untyped]  # SciPy ships no types
import torch
from torch import Tensor

ROW_BLOCKS = 8  # G is symmetric: by row blocks, only its lower triangle is computed, 9/16 of the products
EPSILON = torch.finfo(torch.float64).eps
SMALL = 512  # up to here SciPy's threads cost more than they bring


@dataclass(frozen=True)
class Basis:
    """An orthonormal basis with a scale for each direction, strongest first.

    Attributes:
        directions: (O, R) U, orthonormal columns, float64.
        scales: (R,) S / sqrt(K), float64: per client, so that a client more or less does not change the scale.
    """

    directions: Tensor
    scales: Tensor

    def to(self, device: torch.device) -> "Basis":
        """Return the basis on a device."""
        return Basis(self.directions.to(device), self.scales.to(device))


def add_gram(gram_OO: Tensor, matrix_OI: Tensor, *, products: torch.dtype) -> None:
    """Add X X^T to the lower triangle of a running sum, in place.

    Args:
        gram_OO: the sum, float64; what stands above the diagonal blocks is not kept up.
        matrix_OI: X, float64.
        products: torch.float64, or torch.float32 for products in single precision that are summed over clients in
            double: about twice as fast, and good to about 1e-5.
    """
    scale = 1.0
    if products == torch.float32:
        # by a power of two, so that nothing is rounded: squares of large or small entries would leave float32's range
        scale = 2.0 ** float(torch.frexp(matrix_OI.abs().max()).exponent)
        matrix_OI = (matrix_OI / scale).to(torch.float32)
    rows = gram_OO.shape[0]
    edges = [rows * block // ROW_BLOCKS for block in range(ROW_BLOCKS + 1)]
    for start, stop in pairwise(edges):
        block = gram_OO[start:stop, :stop]
        if products == torch.float64:
            block.addmm_(matrix_OI[start:stop], matrix_OI[:stop].t())
        else:
            block.add_(matrix_OI[start:stop] @ matrix_OI[:stop].t(), alpha=scale * scale)


def leading_basis(gram_OO: Tensor, *, rank: str | int | float, clients: int, precision: float) -> Basis | None:
    """Return the strongest directions of the clients' matrices.

    Args:
        gram_OO: G, of which the lower triangle is read.
        rank: "full" for every direction above rounding, an int for that many at most, a float in (0, 1) for the fewest
            that hold that share of the energy (the sum of squared singular values).
        clients: K.
        precision: rounding unit of the products in G. Directions whose eigenvalue is at most precision * O times the
            largest are rounding and never kept.

    Returns:
        The basis, or None when G is zero.
    """
    outputs = gram_OO.shape[0]
    eigenvalues_R, directions_OR = symmetric_eigen(gram_OO, leading=rank if isinstance(rank, int) else None)
    largest = float(eigenvalues_R[0])
    if not largest > 0:
        return None
    kept = int((eigenvalues_R > precision * outputs * largest).sum())
    if isinstance(rank, float):
        energy_R = eigenvalues_R[:kept].cumsum(0)
        kept = min(kept, int((energy_R < rank * energy_R[-1]).sum()) + 1)
    scales_R = (eigenvalues_R[:kept] / clients).sqrt()
    return Basis(directions_OR[:, :kept].contiguous(), scales_R.contiguous())


def symmetric_eigen(matrix_NN: Tensor, *, leading: int | None = None) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, largest first, and their eigenvectors.

    Large ones on the CPU go to SciPy's LAPACK: it was 3 times faster than torch's at 2048 and 4096 rows, and it can
    stop at the leading few.

    Args:
        matrix_NN: symmetric, float64; the lower triangle is read.
        leading: how many are wanted, all by default.

    Returns:
        (R,) eigenvalues and (N, R) orthonormal eigenvectors, with R = N or min(leading, N).
    """
    size = matrix_NN.shape[0]
    wanted = size if leading is None else min(leading, size)
    if size <= SMALL or matrix_NN.device.type != "cpu":
        values, vectors = torch.linalg.eigh(matrix_NN)
        return values.flip(0)[:wanted], vectors.flip(1)[:, :wanted]
    few = wanted * 4 <= size  # past about a quarter, divide and conquer for all of them is as fast
    values, vectors = scipy.linalg.eigh(
        matrix_NN.numpy(),
        lower=True,
        check_finite=False,
        driver="evr" if few else "evd",
        subset_by_index=(size - wanted, size - 1) if few else None,
    )
    return torch.from_numpy(values[::-1][:wanted].copy()), torch.from_numpy(vectors[:, ::-1][:, :wanted].copy())


def leading_svd(matrix_OI: Tensor, *, most: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the strongest directions of a matrix, U S V^T, by the Gram matrix of its shorter side.

    The product U S V^T is the projection onto these directions to full precision. Directions whose S is at most about
    1e-8 of the largest are rounding in a Gram matrix, and never kept.

    Args:
        matrix_OI: float64.
        most: how many directions at most, all by default.

    Returns:
        (O, R) U and (I, R) V with orthonormal columns, (R,) S between them, largest first; R = 0 for a zero matrix.
    """
    rows, columns = matrix_OI.shape
    if rows > columns:
        right_IR, scales_R, left_OR = leading_svd(matrix_OI.t(), most=most)
        return left_OR, scales_R, right_IR
    gram_OO = torch.zeros(rows, rows, dtype=torch.float64, device=matrix_OI.device)
    add_gram(gram_OO, matrix_OI, products=torch.float64)
    basis = leading_basis(gram_OO, rank="full" if most is None else most, clients=1, precision=EPSILON)
    left_OR = gram_OO[:, :0] if basis is None else basis.directions
    scaled_IR = matrix_OI.t() @ left_OR
    scales_R = scaled_IR.norm(dim=0)
    return left_OR, scales_R, scaled_IR / scales_R


def divide(matrix_OI: Tensor, gram_II: Tensor, *, cutoff: float) -> tuple[Tensor, int]:
    """Return B A^+, with the pseudo-inverse of a symmetric positive semidefinite A.

    Args:
        matrix_OI: B, float64.
        gram_II: A, float64; the lower triangle is read.
        cutoff: eigenvalues of A up to this share of the largest count as zero, and so does what is rounding.

    Returns:
        (O, I) the quotient, 0 along directions that count as zero, and how many do not.
    """
    eigenvalues_I, directions_II = symmetric_eigen(gram_II)
    largest = float(eigenvalues_I[0])
    if not largest > 0:
        return torch.zeros_like(matrix_OI), 0
    rank = int((eigenvalues_I > max(cutoff, EPSILON * len(gram_II)) * largest).sum())
    kept_IR = directions_II[:, :rank]
    return (matrix_OI @ kept_IR / eigenvalues_I[:rank]) @ kept_IR.t(), rank


def polar(matrix_OR: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest matrix with orthonormal columns, P Q^T for P D Q^T.

    Args:
        matrix_OR: float64, at least as many rows as columns.

    Returns:
        (O, R) the polar factor, and (R,) the singular values D, largest first. Directions of no length are filled up
        with any orthonormal ones.
    """
    left_OR, singular_R, right_t_RR = _precise_svd(matrix_OR)
    return left_OR @ right_t_RR, singular_R


def polar_on_range(matrix_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Return P Q^T for P D Q^T, over the directions in which the matrix is not zero.

    Unlike `polar`, it is well defined for a matrix of any shape and rank: nothing is filled up.

    Args:
        matrix_OI: float64.

    Returns:
        (O, I) the factor, and all min(O, I) singular values D, largest first. Those at most rounding's size, as in
        NumPy's matrix_rank, count as zero.
    """
    if matrix_OI.shape[0] < matrix_OI.shape[1]:
        factor_IO, singular_O = polar_on_range(matrix_OI.t())
        return factor_IO.t(), singular_O
    left_OI, singular_I, right_t_II = _precise_svd(matrix_OI)
    rank = int((singular_I > EPSILON * len(matrix_OI) * singular_I[0]).sum())
    return left_OI[:, :rank] @ right_t_II[:rank], singular_I


def _precise_svd(matrix_OR: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return P (O, R), D (R,) and Q^T (R, R) of a matrix with at least as many rows as columns, largest first."""
    size = matrix_OR.shape[1]
    gram_RR = torch.zeros(size, size, dtype=torch.float64, device=matrix_OR.device)
    add_gram(gram_RR, matrix_OR.t(), products=torch.float64)
    _, right_RR = symmetric_eigen(gram_RR)
    scaled_OR = matrix_OR @ right_RR
    singular_R = scaled_OR.norm(dim=0)
    if not float(singular_R.min()) > 1e-4 * float(singular_R.max()):  # true for a zero matrix as well
        # squaring has cost the small ones half their digits: they need the SVD itself, which is several times slower
        left_OR, singular_R, right_t_RR = torch.linalg.svd(matrix_OR, full_matrices=False)
        return left_OR, singular_R, right_t_RR
    return scaled_OR / singular_R, singular_R, right_RR.t()
