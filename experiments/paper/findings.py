"""Text of the result pages that no result file has: heads, explanations, and README's groups."""

# Explanations without numbers; those are in the results' files.
NOTES = {
    "table2a": (
        "The four fused in-projections (5, 9, 15, 21) are less uniform under Adam, and their "
        "queries, and mostly their keys, are not: see `extra_parts`."
    ),
    "table2b": (
        "Neither optimizer learns the random targets in so few updates. R_med was recorded "
        "with eps in its denominator, so that its size says little."
    ),
    "figure3b": (
        "Neither optimizer learns the targets in so few updates; the learning rates are those "
        "of the real targets."
    ),
    "table5": (
        "Under Adagrad the median entry of feed-forward weights is zero at the first checkpoints: "
        "their ReLU units are dead, R_med is infinite, and the ratio 0."
    ),
    "table6": "The means of SGD+M are over other repeats than the ratios.",
    "table7": "SGD+M does not reach the lowest of the three losses in its updates.",
    "table9": (
        "The decay is PyTorch's L2 term, which Adam divides by the root of its second moment. "
        "Weights with small gradients therefore shrink at full speed. The curvature of "
        "queries and keys vanishes with them, and R_med of the in-projections grows. The "
        "paper's section 4.4 names this exception."
    ),
    "figure5": "The paper's model is four times as wide.",
    "figure9": "The paper's model is four times as wide.",
    "figure10": "The paper's model is four times as wide.",
    "table1": (
        "The number of updates is far below the paper's, and 20 coordinates a layer are few. "
        "SGD+M has hardly left chance when the optimizers are first compared."
    ),
    "figure14": "These are few rows and few updates.",
    "table3": (
        "The first checkpoint comes after few updates, when Adagrad has taken R_med of some "
        "layers far up."
    ),
    "table4": (
        "The first checkpoint comes after few updates, when Adagrad has taken R_med of some "
        "layers far up."
    ),
    "section31": (
        "A LayerNorm behind these layers removes the scale, so that H falls like 1/gain². The "
        "paper may mean another layer. Lanczos in float32 overestimates tiny eigenvalues; the "
        "float64 matrix is exact."
    ),
    "table10": "Single layers do not repeat on another processor; counts and medians do.",
    "claim": "Three kinds of runs differ from the rest: random targets, weight decay, and BERT.",
    "extra_classes": "The head's curvature at uniform predictions does not depend on the targets.",
    "extra_full": "Sampling hides the size of R_med, not the direction of a ratio.",
    "extra_parts": (
        "The median entry of V is far above those of Q and K under both optimizers, so that a "
        "fused R_med mostly measures this distance."
    ),
    "extra_optimizers": (
        "R_med falls over training under all of them. SGD+M takes two to four times as many "
        "updates to a loss as AdamW and Muon, so that at equal losses it has trained for longer. "
        "Lion never reaches the lowest loss, at the best rate of its grid."
    ),
    "extra_preconditioned": (
        "Before its first window of losses is whole (step 15) a run has no speed."
    ),
    "extra_rates": (
        "At the last step all runs are below the edge of stability, and the loss falls with the "
        "rate up to the largest. R_med at equal steps depends on the rate as much as on the "
        "optimizer."
    ),
    "extra_weight_decay": "Under the larger decays hardly anything is learnt.",
}

# What was published before its runs took the paper's protocol; a command gives today's.
EARLIER_PROTOCOL = frozenset(
    [
        *("figure1a", "table2b", "figure3b", "table6", "figure7", "table7", "table9", "figure13a"),
        *("claim", "extra_weight_decay"),
    ]
)
EARLIER = (
    "translation runs of 600 updates, 50 coordinates a layer and other learning rates; the command "
    "takes 1,800 updates, 200 coordinates and the paper's way to choose rates"
)

# A line each in README: the experiments, and what they are about.
README_LINES = (
    (("corollary1", "theorem1"), "linear networks: R_med of SGD+M over Adam, at equal loss"),
    (("theorem2",), "linear networks: R_diag of a constant matrix over R_diag"),
    (("table2a", "figure1b"), "translation: R_med of SGD+M over Adam"),
    (("table2b",), "the same, random targets"),
    (("table1",), "BERT: R_med of SGD+M over Adam"),
    (("table3", "table4", "table5"), "language model: R_med of SGD over Adagrad"),
    (("table6",), "R_med of SGD+M over RMSprop, AMSGrad"),
    (("table7",), "R_med of SGD+M over Adam at equal training loss"),
    (("table8",), "R_med falls when SGD switches to Adam"),
    (("table9",), "R_med of SGD+M over Adam with weight decay"),
    (("table10",), "ResNet: R_med of SGD+M is not above Adam's"),
    (("figure2", "figure3a", "figure6", "figure7"), "adaptive optimizers are faster"),
    (("figure4", "figure11", "figure12"), "adaptive updates align less with the curvature"),
    (
        ("figure9", "figure5", "figure10"),
        "some weights are nearly of low rank (leading share of ‖W‖² over ½)",
    ),
)

RESULTS_HEAD = """# Results

Every table and figure of the paper, measured at `cpu` scale: the same families of models, narrower
and mostly trained for fewer updates. `python -m experiments.reproduce pages` writes this page from
the files in `experiments/results`.

**Ratio.** R_med of the first optimizer over R_med of the second, in one layer at one checkpoint.
"Above 1" counts (layer, checkpoint) pairs. Layers and checkpoints are paired with the paper's by
number and by share of training. "The same side of 1" compares each pair with the paper's. ρ is
Spearman's rank correlation.

**Outcome.** `experiments/paper/verdict_rules.py` holds a rule for each experiment: statistic,
steps, layers, margin and test. An experiment is *reproduced* where the effect reaches the margin,
its 95% interval lies on the claim's side, and p ≤ 0.05 over at least {least} repeats.
It is *contradicted* where the interval lies below the margin, *in part* where some of its parts are
reproduced, and else *undecided*. Of a claim that something is not so, the first two are exchanged.
With fewer than {least} repeats no numbers can reach p ≤ 0.05.

**As claimed.** The number of parts (a setting at a step) whose effect lies on the claim's side of
the margin. It describes the numbers; it is not a test.

**Intervals.** Where entries were kept, `hgeo.r_med_ratio` resamples repeats and sampled
coordinates; else the interval covers repeats alone, and the table says so. A sampled R_med is
below the layer's (`extra_full`): ratios at the same coordinates are compared, not sizes.
"""

GALLERY_HEAD = """# Gallery

Every figure of the results, measured at `cpu` scale. `python -m experiments.reproduce ID
--scale=cpu --data_dir=DIR --workdir=D` makes the figure of an id;
[results](reproduction/results.md) has the exact command of each.
"""
