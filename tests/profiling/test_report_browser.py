"""The page as a browser shows it: it is clicked, read on a phone, and asks the network for nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from profiles import make_document

from gaitedge.profiling.report import write_report

webdriver: Any = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs chromium and chromedriver; run: apt-get install chromium chromium-driver",
)
SWITCHES = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1280,1000"
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "profile.html"
    write_report(make_document(), path)
    return path.as_uri()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield browser
    finally:
        browser.quit()


@pytest.fixture
def browser(running: Any, address: str) -> Any:
    running.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    running.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    running.get(address)
    return running


def find(browser: Any, query: str) -> Any:
    return browser.find_element("css selector", query)


def click(browser: Any, query: str) -> None:
    element = find(browser, query)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def shown_panel(browser: Any) -> str:
    (panel,) = [each for each in browser.find_elements("css selector", "[data-panel]") if each.is_displayed()]
    return str(panel.get_attribute("data-panel"))


def choose(browser: Any, query: str, value: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(find(browser, query)).select_by_value(value)


def test_nothing_goes_wrong_and_nothing_is_asked_for(browser: Any, address: str) -> None:
    browser.get("about:blank")
    browser.get_log("performance")  # what came before, the browser's own first page among it
    browser.get(address)
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    assert asked == {address}
    assert browser.title == "GaitEdge profile of walkers.gait"


def test_a_cell_of_the_heat_map_shows_its_latency(browser: Any) -> None:
    before = shown_panel(browser)
    click(browser, '#heat td[data-batch="8"][data-frames="30"] button')
    panel = shown_panel(browser)
    configuration = make_document().rows[int(panel)].configuration
    assert panel != before
    assert (configuration.batch, configuration.frames, configuration.precision) == (8, 30, "int8")
    assert find(browser, "tr.chosen").get_attribute("data-row") == panel
    assert (
        find(browser, '#heat button[aria-pressed="true"]').text
        == find(browser, '#heat td[data-batch="8"][data-frames="30"]').text
    )


def test_metric_and_configuration_of_the_heat_map_can_be_chosen(browser: Any) -> None:
    cell = '#heat td[data-batch="1"][data-frames="300"]'
    median = find(browser, cell).text
    choose(browser, "#metric", "sequences")
    assert find(browser, "#heat-unit").text == "throughput, sequences/s"
    assert find(browser, cell).text != median
    choose(browser, "#variant", "openvino, fp32, exported, 2 threads")
    failed = find(browser, '#heat td[data-batch="8"][data-frames="300"] button')
    assert failed.text == "–"
    assert "was killed" in failed.get_attribute("aria-label")
    click(browser, '#heat td[data-batch="8"][data-frames="300"] button')
    assert (
        "Not measured: its process was killed" in find(browser, f'[data-panel="{shown_panel(browser)}"]').text
    )


def test_a_row_is_chosen_by_name_and_the_table_is_sorted_by_its_heads(browser: Any) -> None:
    choose(browser, "#row", "3")
    assert shown_panel(browser) == "3"
    click(browser, "#sweep table.sortable th:nth-child(4) button")
    rows = browser.find_elements("css selector", "#sweep table.sortable tbody tr")
    numbers = [
        float(text) for row in rows if (text := row.find_elements("css selector", "td")[3].text) != "–"
    ]
    assert numbers == sorted(numbers)
    click(browser, "#sweep table.sortable th:nth-child(4) button")
    head = find(browser, "#sweep table.sortable th:nth-child(4)")
    assert head.get_attribute("aria-sort") == "descending"


def test_layers_unfold(browser: Any) -> None:
    table = find(browser, "#layers details table")
    assert not table.is_displayed()
    click(browser, "#layers summary")
    assert table.is_displayed()
    assert "fconv2.conv" in table.text


@pytest.mark.parametrize("width", [320, 360, 414, 768])
def test_nothing_but_tables_and_charts_is_wider_than_a_phone(browser: Any, width: int) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.refresh()
    wide = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide == [width, width]


def test_it_is_dark_where_that_is_wanted(browser: Any) -> None:
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(colour)
    wanted = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
    dark = browser.execute_script(colour)
    brightness = [sum(map(int, each[4:-1].split(","))) for each in (light, dark)]
    assert brightness[0] > 700
    assert brightness[1] < 150


def test_it_can_be_read_without_its_script(browser: Any, tmp_path: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.refresh()
        text = find(browser, "main").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "median latency, ms" in text
    assert "faster, 3.12×" in text
