"""Fisher weights: reliability per parameter, by AdamW's second moments. This project's own preset.

    theta = theta_g + sum_k a_k F_k Delta_k / sum_k a_k F_k,   F_k = u_k + damping * mean_entries(sum_j a_j u_j)
    u_k = v_k^p / mean_entries(v_k^p)
entry by entry, with v_k client k's second moment at the end of its round, and a_k = n_k / n.  For clients that train
plainly.  A client adds to the sums:  n_k Delta_k, n_k u_k and n_k u_k Delta_k (sums.py); they add up in any tree.
The options are those of `FedCMP`, whose other parts are off here: without momentum and at full rank the canonical space
changes nothing (docs/methods.md, fact 1); `rank`, `momentum` and `reliability` turn them on.
Implements docs/methods.md, Fisher weights.
"""

from fedcmp.aggregation.fedcmp import FedCMP
from fedcmp.aggregation.registry import register

FISHER: dict[str, object] = {
    "reliability": "none",
    "parameter_exponent": 0.5,
    "parameter_normalise": True,
    "parameter_damping": 0.01,
    "space": "updates",
    "rank": "full",
    "matching": "procrustes",
    "tail": "average",
    "bias": "column",
    "momentum": False,
    "basis": "canonical",
}

register(
    "fisher",
    summary="ours: reliability per parameter, for plainly trained clients",
    paper="this project",
    defaults=FISHER,
)(FedCMP)
