"""The page of an experiment, without a browser."""

import dataclasses
import json
import re

import numpy as np
import pytest

from hgeo.report.colors import Scale
from hgeo.report.html import embedded_json, html_table, resource
from hgeo.report.layer_view import MEDIAN, layer_view
from hgeo.report.text_table import Table
from tests.report.recorded import (
    AT_LAST,
    LAYERS,
    MARKUP,
    OPTIMIZERS,
    STEPS,
    make_records,
    write_demo,
)
from tests.report.test_tables import make_runs

PAIRS = [("sgdm", "adam")]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("work")).read_text()


def embedded(page):
    (text,) = re.findall(r'<script type="application/json" id="layer-data">(.*?)</script>', page)
    return json.loads(text)


def test_view_holds_the_recorded_values_in_network_order(page, tmp_path):
    view = embedded(page)
    names = [layer.removesuffix("/kernel") for layer in LAYERS]
    assert view["layers"] == [[str(n), x] for n, x in enumerate(names, start=1)] + [["", MEDIAN]]
    r_med, rho = view["statistics"]
    assert (r_med["steps"], rho["steps"]) == (list(STEPS), [0, 20])
    shown = [[float(cell[0]) for cell in row] for row in r_med["cells"][-1]]
    for k, name in enumerate(OPTIMIZERS):
        np.testing.assert_allclose([row[k] for row in shown[:-1]], AT_LAST[name], rtol=1e-9)
    assert shown[2][2] == pytest.approx(9.5 / 20)
    assert r_med["cells"][-1][0][0][1] == "120 (84.9)", "the texts are those of the tables"
    assert [rho["cells"][-1][0][k][1] for k in range(3)] == ["0.800 (0.0)", "0.800 (0.0)", "–"]
    assert view == json.loads(json.dumps(layer_view(make_records(tmp_path), OPTIMIZERS, PAIRS)))


def test_last_row_is_the_median_over_layers(page):
    last = embedded(page)["statistics"][0]["cells"][-1][-1]
    assert last[0][0] == pytest.approx((120 + 1000) / 2), "of 9.5, 120, 1000 and inf"
    assert last[1][0] == pytest.approx(4.0), "of 3, 4 and 20; NaN left out"


def test_all_params_together_have_their_own_row(tmp_path):
    runs = make_runs(tmp_path, {"sgdm": [{5: 4.0}]}, ["all params", "a"], [0, 1])
    runs[0].geometry[5][0] = dataclasses.replace(runs[0].geometry[5][0], value=90.0)
    (r_med,) = layer_view(runs, ("sgdm",), ())["statistics"]
    assert [row[0][0] for row in r_med["cells"][0]] == [90.0, 4.0, 4.0]


def test_names_stay_text_in_every_place(page):
    assert "<script>alert" not in page
    assert page.count("<script") == page.count("</script>") == 5
    assert MARKUP not in page
    assert "\\u003c/script\\u003e\\u003cscript\\u003ealert(1)" in page


def test_embedded_json_is_what_it_was():
    value = {"a": [MARKUP, "&<>\u2028\u2029é", 1.5, None]}
    text = embedded_json("x", value)
    inner = text[text.index(">") + 1 : text.rindex("<")]
    assert not set(inner) & set("<>&\u2028\u2029")
    assert json.loads(inner) == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded_json("x", float("nan"))


def test_page_says_how_it_was_made(page):
    assert "<pre>python -m hgeo.main --config=&#x27;a b&#x27;</pre>" in page
    assert "<summary>All settings</summary>" in page


def test_page_loads_nothing(page):
    assert "default-src 'none'" in page
    assert "://" not in page
    used = re.findall(r'(?:src|href)="([^"]{0,19})', page)
    assert {u for u in used if u[0] != "#"} == {
        "data:image/svg+xml;",
        "data:image/png;base",
    }


def test_table_keeps_sums_below_and_groups_above():
    rows = [["1", "a", "2.00", "x"], ["", "loss", "1.0 (0.1)", ""]]
    text = html_table(
        Table("t", ["#", "layer", "5:Adam", "kind"], rows, [], ["", "", "step 5", ""])
    )
    assert re.search(r"<tbody>\n<tr>.*</tr>\n</tbody>\n<tfoot>\n<tr>.*loss.*</tr>\n</tfoot>", text)
    assert '<th scope="colgroup" colspan="1">step 5</th>' in text
    assert ">Adam</th>" in text
    assert '<td class="text start"><span class="name">x</span></td>' in text, (
        "a column of names is set as text"
    )
    assert '<td class="number start">2.00</td>' in text


@pytest.mark.parametrize("diverging", [True, False])
def test_colors_are_in_order_and_never_too_dark_for_black_text(diverging):
    scale = Scale([0.01, 1.0, 100.0, np.inf, np.nan], is_logarithmic=True, is_diverging=diverging)
    assert scale.color(np.nan) == ""
    assert scale.color(np.inf) == scale.color(1e9) == scale.sample()[-1]
    assert scale.color(0.0) == scale.color(1e-9) == scale.sample()[0]
    if diverging:
        assert scale.low * scale.high == pytest.approx(1.0)
    for color in scale.sample(50):
        channels = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        # WCAG 2: a contrast of 4.5 and more to black.
        assert (linear @ [0.2126, 0.7152, 0.0722] + 0.05) / 0.05 > 4.5


def test_scale_of_nothing_or_one_value_has_a_color():
    for values in ([], [np.nan], [3.0, 3.0]):
        assert re.fullmatch("#[0-9a-f]{6}", Scale(values, True, False).color(3.0))


def test_scripts_lie_beside_the_code():
    for name in ("style.css", "tables.js", "saving.js", "chart.js", "layers.js"):
        assert "<" + "/s" not in resource(name), "it would end its element"
