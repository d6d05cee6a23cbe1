"""The theory's two-layer linear network, trained by SGD+M and Adam of equation (3), in float64.

    python -m experiments.reproduce theorem1 corollary1 theorem2 --workdir=runs/linear
    python -m experiments.reproduce linear_limits --workdir=runs/linear

(`experiments.reproduce` reads this file; `--scale` picks the scale, by default `cpu`.) L(W) =
½‖W₂W₁ − A‖² with W₁ d×d, W₂ 1×d, targets A_j uniform in (target.low, target.high), initial weights
Gaussian. A number that depends on d is `scale · d^power`. `noise_variance` is the σ² of assumption
3 (the batch's input covariance and targets); 0 is the full batch.

Scales: `cpu`, d from 16 to 1,024, 200 seeds at d = 16 and 20 at 1,024; `paper`, up to 4,096,
otherwise the same, meant for a large machine; `gpu`, as `cpu`; `smoke`, d of 8 and 16, in seconds.

Hardware: 2 CPU cores. Time at `cpu`: 2 min 22 s for the first command; 1 min 51 s for the second,
on busy cores.
Expected: R_med of SGD+M near 3.5 log d in the median, Adam's within 1.02 for d ≥ 64.

Adam's rate is d^(−3/4): with √d times it constant, R_med − 1 would be constant too.
"""

from ml_collections import ConfigDict

from configs.common import check_scale

_CPU = {
    "dims": (16, 32, 64, 128, 256, 512, 1024),
    "num_seeds": (200, 200, 200, 100, 100, 50, 20),
    "r_diag_dims": (8, 16, 32, 64, 128, 256),
    "r_diag_seeds": 50,
    "shown_dim": 256,
    "limits_dim": 32,
    "limits_seeds": 20,
}

SCALES = {
    "paper": {
        "dims": (16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
        "num_seeds": (200, 200, 200, 100, 100, 50, 20, 20, 20),
        "r_diag_dims": (8, 16, 32, 64, 128, 256, 512, 1024),
        "r_diag_seeds": 50,
        "shown_dim": 256,
        "limits_dim": 64,
        "limits_seeds": 50,
    },
    "gpu": _CPU,
    "cpu": _CPU,
    "smoke": {
        "dims": (8, 16),
        "num_seeds": (4, 3),
        "r_diag_dims": (4, 8),
        "r_diag_seeds": 3,
        "shown_dim": 16,
        "limits_dim": 4,
        "limits_seeds": 2,
    },
}


def get_config(scale: str = "cpu") -> ConfigDict:
    """The config at a scale: `configs/linear.py:paper`, `:gpu`, `:cpu` or `:smoke`."""
    check_scale("linear", scale, SCALES)
    at = SCALES[scale]
    smoke = scale == "smoke"
    return ConfigDict(
        {
            "seed": 0,
            "dims": at["dims"],
            "num_seeds": at["num_seeds"],
            "initial_std": {"scale": 1e-4, "power": -1.0},
            "target": {"low": 0.5, "high": 1.5},
            "noise_variance": 0.0,
            "sgdm": {
                "learning_rate": {"scale": 0.033, "power": -0.5},
                "momentum": 0.9,
                "steps": {"scale": 200.0, "power": 0.0},
                "record_every": 2,
            },
            "adam": {
                "learning_rate": {"scale": 4.2e-3, "power": -0.75},
                "b1": 0.9,
                "b2": 0.999,
                "xi": 1e-30,
                "steps": {"scale": 330.0, "power": 0.25},
                "record_every": 10,
            },
            # T1 is the first step with a loss of at most first_ratio of the initial one, T2 the
            # last one with at least last_ratio of it.
            "first_ratio": 0.5,
            "last_ratio": 1e-3,
            "num_loss_levels": 20,
            "shown_dim": at["shown_dim"],
            "r_diag": {
                "dims": at["r_diag_dims"],
                "num_seeds": at["r_diag_seeds"],
                "dense_up_to": 16,
                "records": 20,
            },
            "limits": {
                "dim": at["limits_dim"],
                "num_seeds": at["limits_seeds"],
                "depths": (2, 3) if smoke else (2, 3, 4),
                # Standard deviations times √d; 1 keeps the size of signals.
                "initial_stds": (0.1, 1.0) if smoke else (0.01, 0.1, 0.3, 1.0),
                "learning_rate_factors": (1.0, 100.0) if smoke else (1.0, 3.0, 10.0, 15.0, 30.0),
                "steps": 500 if smoke else 3000,
            },
        }
    )
