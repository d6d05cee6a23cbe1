"""The page over all experiments of a work folder."""

import re

from etils import epath
from matplotlib.figure import Figure

from experiments.paper.page import write_page
from experiments.paper.result import Result
from hgeo.report.tables import Table


def test_page_keeps_earlier_experiments_and_escapes_names(tmp_path):
    folder = epath.Path(tmp_path)
    for name, layer in (("b_second", "a<b"), ("a_first", "<script>alert(1)</script>")):
        figure = Figure(figsize=(1, 1))
        table = Table("T & t", ["#", "layer"], [["1", layer]], ["note <i>"])
        result = Result([{"a": 1}], table, {"fig": figure}, "holds: a < b")
        write_page(folder, name, result, "run --x='<y>'", {"set<1>": {"key": "<b>"}})
    page = (folder / "report.html").read_text()
    assert re.findall(r'<option value="(\w+)"', page) == ["a_first", "b_second"]
    assert re.findall(r'<section id="(\w+)"', page) == ["a_first", "b_second"]
    assert page.count("<script>") == page.count("</script>") == 3, "the page's own, no other"
    assert "&lt;script&gt;alert(1)" in page
    assert "set&lt;1&gt;" in page
    assert "note &lt;i&gt;" in page
    assert page.count("data:image/png;base64,") == 2
    assert "://" not in page
