"""Faults in tables, figures and the page."""

from tests.mutants.mutant import Mutant

TABLES, FIGURES = ("tests/report/test_tables.py",), ("tests/report/test_figures.py",)
PAGE = ("tests/report/test_page.py",)

MUTANTS = (
    Mutant(
        "label_swapped",
        "the column of the first optimizer has the second's name",
        "hgeo/report/tables.py",
        '[f"{heading}:{label(pair[0])}", *texts[0]]',
        '[f"{heading}:{label(pair[1])}", *texts[0]]',
        TABLES,
    ),
    Mutant(
        "ratio_inverted",
        "the ratio is the second over the first",
        "hgeo/report/tables.py",
        "return above / below",
        "return below / above",
        TABLES,
    ),
    Mutant(
        "ratio_of_means",
        "the ratio is that of the means over the repeats",
        "hgeo/report/tables.py",
        "return above / below",
        "return above.mean(keepdims=True) / below.mean(keepdims=True)",
        TABLES,
    ),
    Mutant(
        "repeats_by_place",
        "the ratio pairs the repeats of both sides by place and not by number",
        "hgeo/report/tables.py",
        "above, below = (np.array([side[repeat] for repeat in both]) for side in (first, second))",
        "above, below = (np.array([*side.values()][: len(both)]) for side in (first, second))",
        TABLES,
    ),
    Mutant(
        "equal_counted_above",
        "layers with equal numbers count as layers with a ratio above 1",
        "hgeo/report/tables.py",
        "sum(ratio.mean() > 1 for ratio in known)",
        "sum(ratio.mean() >= 1 for ratio in known)",
        TABLES,
    ),
    Mutant(
        "deviation_of_a_population",
        "the standard deviation over the repeats is divided by their number",
        "hgeo/report/tables.py",
        "np.std(values, ddof=1)",
        "np.std(values)",
        TABLES,
    ),
    Mutant(
        "two_digits",
        "numbers have two significant digits",
        "hgeo/report/tables.py",
        "digits = max(0, 2 - int(",
        "digits = max(0, 1 - int(",
        TABLES,
    ),
    Mutant(
        "infinite_points_drawn",
        "values that are not finite are points of the curve",
        "hgeo/report/figures.py",
        "for s, v in found if np.isfinite(v).all()]",
        "for s, v in found]",
        FIGURES,
    ),
    Mutant(
        "smoothing_off_centre",
        "smoothed losses stand at the windows' first steps",
        "hgeo/report/figures.py",
        "return means[0], means[1]",
        "return steps[: len(means[0])], means[1]",
        FIGURES,
    ),
    Mutant(
        "name_not_escaped",
        "names in the page's tables are not escaped",
        "hgeo/report/html.py",
        """{html.escape(name).replace("/", "/<wbr>")}""",
        """{name.replace("/", "/<wbr>")}""",
        PAGE,
    ),
    Mutant(
        "json_not_escaped",
        "text in the page's data can end its element",
        "hgeo/report/html.py",
        'for character in "<>&\\u2028\\u2029":',
        'for character in "&\\u2028\\u2029":',
        PAGE,
    ),
)
