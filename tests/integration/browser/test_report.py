"""The report in a real browser, clicked through; Chromium and Selenium are needed."""

import base64
import json
import shutil
import xml.etree.ElementTree as ElementTree
from urllib.parse import unquote

import pytest
from etils import epath
from matplotlib.figure import Figure

from experiments.paper.page import write_page
from experiments.paper.result import Result
from hgeo.report.text_table import Table
from tests.report.recorded import LAYERS, write_demo

webdriver = pytest.importorskip("selenium.webdriver", reason="the browser test needs selenium")
from selenium.webdriver.chrome.service import Service  # noqa: E402 - after the check
from selenium.webdriver.common.by import By  # noqa: E402 - after the check
from selenium.webdriver.common.keys import Keys  # noqa: E402 - after the check
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402 - after the check

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="the browser test needs chromium and chromedriver"
)

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("work"))


@pytest.fixture
def opened(browser, report):
    """The browser on the report; what it logged and asked for is looked at after the test."""
    requests_of(browser)
    browser.get_log("browser")
    browser.get(report.as_uri())
    yield browser
    assert browser.get_log("browser") == []
    outside = {url for url in requests_of(browser) if not url.startswith("data:")}
    assert outside == {report.as_uri()}


def requests_of(browser):
    """Addresses asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in sent]


def column(table, k):
    return [row.find_elements(By.TAG_NAME, "td")[k].text for row in body_rows(table)]


def body_rows(table):
    return table.find_elements(By.CSS_SELECTOR, "tbody tr")


def header(table, text):
    found = table.find_elements(By.CSS_SELECTOR, "thead tr:last-child th")
    return next(cell for cell in found if cell.text.strip("↕↑↓ ") == text)


def choose(browser, identifier, text):
    Select(browser.find_element(By.ID, identifier)).select_by_visible_text(text)


def test_table_sorts_by_number_both_ways_with_mouse_and_keys(opened):
    table = opened.find_element(By.CSS_SELECTOR, "#tables table")
    before = column(table, 1)
    last = [h for h in table.find_elements(By.CSS_SELECTOR, "th") if "SGD+M" in h.text][-1]
    k = table.find_elements(By.CSS_SELECTOR, "thead tr:last-child th").index(last)
    assert last.get_attribute("aria-sort") == "none"
    last.find_element(By.TAG_NAME, "button").click()
    assert last.get_attribute("aria-sort") == "ascending"
    assert column(table, k) == ["9.50 (6.72)", "120 (84.9)", "1000 (707)", "inf (nan)"]
    last.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert last.get_attribute("aria-sort") == "descending"
    assert column(table, k) == ["inf (nan)", "1000 (707)", "120 (84.9)", "9.50 (6.72)"]
    assert table.find_element(By.CSS_SELECTOR, "tfoot tr").text.startswith("loss"), (
        "sums stay below"
    )
    adam = table.find_elements(By.CSS_SELECTOR, "thead tr:last-child th")[k + 1]
    for _ in range(2):
        adam.find_element(By.TAG_NAME, "button").click()
        assert column(table, k + 1)[-1] == "nan (nan)", "NaN comes last either way"
    assert last.get_attribute("aria-sort") == "none"
    header(table, "#").find_element(By.TAG_NAME, "button").send_keys(Keys.SPACE)
    assert column(table, 1) == before
    header(table, "layer").find_element(By.TAG_NAME, "button").click()
    assert column(table, 1) == sorted(before)


def test_any_statistic_step_and_layer_can_be_chosen(opened):
    table = opened.find_element(By.ID, "layer-table")
    caption = table.find_element(By.TAG_NAME, "caption")
    assert caption.text == "R_med at step 20"
    assert column(table, 1) == [layer.removesuffix("/kernel") for layer in LAYERS]
    first = body_rows(table)[0].find_elements(By.TAG_NAME, "td")
    late, color = first[2].text, first[2].value_of_css_property("background-color")
    assert late == "120 (84.9)"

    slider = opened.find_element(By.ID, "step")
    slider.send_keys(Keys.HOME)
    assert caption.text == "R_med at step 0"
    assert first[2].text == "10.0 (7.07)"
    assert first[2].value_of_css_property("background-color") != color
    slider.send_keys(Keys.END)
    assert first[2].text == late

    header(table, "SGD+M").find_element(By.TAG_NAME, "button").click()
    assert column(table, 0) == ["3", "1", "4", "2"]
    choose(opened, "statistic", "Spearman's ρ of |g| with |H_ii|")
    assert caption.text == "Spearman's ρ of |g| with |H_ii| at step 20"
    assert column(table, 2) == ["-0.500 (0.0)", "0.0 (0.0)", "0.800 (0.0)", "nan (nan)"]
    assert column(table, 0) == ["3", "2", "1", "4"], "the order goes with the values"
    header(table, "#").find_element(By.TAG_NAME, "button").click()
    assert not table.find_element(By.CSS_SELECTOR, "th.ratio").is_displayed()
    choose(opened, "statistic", "R_med")
    assert table.find_element(By.CSS_SELECTOR, "th.ratio").is_displayed()

    body_rows(table)[-1].find_element(By.TAG_NAME, "button").click()
    drawn = opened.find_element(By.CSS_SELECTOR, "#drawn svg")
    name = "4: head"
    assert Select(opened.find_element(By.ID, "layer")).first_selected_option.text == name
    assert f"R_med, {name} (log scale)" in drawn.text
    choose(opened, "layer", "2: " + LAYERS[1])
    assert LAYERS[1][:5] in drawn.text, "markup in a name is drawn as it is"


def test_figures_are_saved_as_they_are_shown(opened, tmp_path):
    opened.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    figures = opened.find_elements(By.TAG_NAME, "figure")
    assert len(figures) == 4
    ready = lambda d: all(
        a.get_attribute("href") for a in d.find_elements(By.CSS_SELECTOR, ".save a")
    )
    WebDriverWait(opened, 10).until(ready)
    for figure in figures:
        links = figure.find_elements(By.CSS_SELECTOR, ".save a")
        svg, png = [link.get_attribute("href").partition(",") for link in links]
        assert svg[0].startswith("data:image/svg+xml")
        text = base64.b64decode(svg[2]).decode() if "base64" in svg[0] else unquote(svg[2])
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert base64.b64decode(png[2]).startswith(b"\x89PNG")
    figures[1].find_element(By.CSS_SELECTOR, "a.svg").click()
    saved = tmp_path / "losses.svg"
    WebDriverWait(opened, 10).until(lambda _: saved.exists() and saved.stat().st_size)
    ElementTree.parse(saved)
    shown = opened.execute_script("return [...document.images].map(i => i.naturalWidth)")
    assert len(shown) == 3
    assert all(shown)


def test_config_opens(opened):
    settings = opened.find_element(By.CSS_SELECTOR, "#config details pre")
    assert not settings.is_displayed()
    opened.find_element(By.TAG_NAME, "summary").click()
    assert settings.is_displayed()
    assert json.loads(settings.text)["workload"] == "lm"


def test_page_fits_a_phone(opened):
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        opened.refresh()
        width = opened.execute_script("return document.documentElement.scrollWidth")
        assert width == 390, "only tables and wide figures scroll sideways"
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_without_scripts_tables_and_figures_are_there(opened):
    opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened.refresh()
        table = opened.find_element(By.ID, "layer-table")
        assert len(body_rows(table)) == len(LAYERS)
        assert "120 (84.9)" in table.text
        colored = table.find_element(By.CSS_SELECTOR, "tbody td:nth-child(3)")
        assert colored.value_of_css_property("background-color") != "rgba(0, 0, 0, 0)"
        shown = [image.is_displayed() for image in opened.find_elements(By.TAG_NAME, "img")]
        assert shown == [True] * 3
        assert not opened.find_element(By.CSS_SELECTOR, ".controls").is_displayed()
    finally:
        opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_page_of_experiments_shows_the_one_that_is_picked(browser, tmp_path):
    for name, values in (("first", ["2.0×", "10×"]), ("second", ["–", "3"])):
        table = Table(name, ["#", "layer", "x"], [["1", "a", values[0]], ["2", "b", values[1]]], [])
        figure = Figure(figsize=(2, 2))
        write_page(epath.Path(tmp_path), name, Result([], table, {name: figure}, "v"), "run", {})
    browser.get_log("browser")
    browser.get((tmp_path / "report.html").as_uri())
    shown = lambda: [s.get_attribute("id") for s in sections if s.is_displayed()]
    sections = browser.find_elements(By.TAG_NAME, "section")
    assert shown() == ["first"]
    Select(browser.find_element(By.TAG_NAME, "select")).select_by_visible_text("second")
    assert shown() == ["second"]
    table = sections[1].find_element(By.TAG_NAME, "table")
    header(table, "x").find_element(By.TAG_NAME, "button").click()
    assert column(table, 2) == ["3", "–"]
    href = sections[1].find_element(By.CSS_SELECTOR, "a.svg").get_attribute("href")
    ElementTree.fromstring(base64.b64decode(href.partition(",")[2]))
    assert browser.get_log("browser") == []
