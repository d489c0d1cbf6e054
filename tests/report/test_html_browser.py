"""The page in a real browser, headless, from disk."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from study import HOSTILE, MARKUP, Study

from sgabench.report import html as page_module
from sgabench.report.formats import render

selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason="there is no Chromium with its driver")
WIDE, PHONE = (1280, 900), (390, 844)


class Browser:
    """A page that is opened and ready."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, size: tuple[int, int] = WIDE, scheme: str = "light") -> None:
        self.driver.get_log("performance")
        self.driver.get_log("browser")
        width, height = size
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.scheme(scheme)
        self.driver.get(page.as_uri())
        self.until("return document.documentElement.dataset.ready === 'yes'")

    def scheme(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str, seconds: float = 15) -> Any:
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)
        return value

    def draw_all(self) -> None:
        """Scroll through the page: a figure is drawn when it is about to be seen."""
        for number in range(self.run("return document.querySelectorAll('.plot').length")):
            self.run("document.querySelectorAll('.plot')[arguments[0]].scrollIntoView()", number)
            self.until(f"return document.querySelectorAll('.plot')[{number}].querySelector('svg.main-svg') !== null")

    def heading(self, name: str) -> int:
        """Number of a column of the leaderboard."""
        headings = "[...document.querySelectorAll('#leaderboard-table thead th')].map(h => h.innerText.trim())"
        number: int = self.run(f"return {headings}.indexOf(arguments[0])", name)
        return number

    def control(self, column: int, kind: str) -> None:
        """Press a button in the head of a column of the leaderboard."""
        head = "document.querySelectorAll('#leaderboard-table thead th')[arguments[0]]"
        self.run(f"{head}.querySelector('.dtcc-button_{kind}').click()", column)

    def column(self, number: int) -> list[str]:
        """The texts of a column of the leaderboard, in the rows that are shown."""
        rows = "[...document.querySelectorAll('#leaderboard-table tbody tr')]"
        found: list[str] = self.run(f"return {rows}.map(row => row.cells[arguments[0]].innerText)", number)
        return found

    def errors(self) -> list[dict[str, Any]]:
        return [entry for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def requests(self) -> set[str]:
        """Addresses that were asked for, but those of the page itself."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return {url for url in sent if not url.startswith(("file:", "data:", "blob:"))}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(CHROMEDRIVER))
    yield Browser(driver)
    driver.quit()


@pytest.fixture
def page(study: Study, tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    text = render(study.tables, "html", study.suite, details=study.details, commands=["sgabench run study.toml"])
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_page_opens_without_errors_or_requests_and_fits(
    browser: Browser, page: Path, size: tuple[int, int], scheme: str
) -> None:
    browser.open(page, size, scheme)
    browser.draw_all()
    assert browser.errors() == []
    assert browser.requests() == set()
    assert browser.run("return document.documentElement.scrollWidth") <= size[0]
    assert browser.run("return document.querySelectorAll('.plot .main-svg[role=img][aria-label]').length") == 9
    paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    ink = browser.run("return document.querySelector('#curves-1 .xtick text').style.fill")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    assert (ink == "rgb(242, 245, 250)") == (scheme == "dark")


def test_the_leaderboard_fits_into_a_common_screen(browser: Browser, page: Path) -> None:
    browser.open(page, (1400, 900))
    right = "return document.querySelector('#leaderboard-table').getBoundingClientRect().right"
    assert browser.run(right) <= 1400
    browser.open(page, PHONE)
    edge = "document.querySelectorAll('#leaderboard-table thead th')[arguments[0]].getBoundingClientRect().left"
    assert browser.run(f"return {edge}", browser.heading("optimizer")) < PHONE[0]


def test_a_curve_is_drawn_through_its_points(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.draw_all()
    lines = browser.run(
        "return [...document.querySelectorAll('#curves-1 .scatterlayer .js-line')].map(l => l.getAttribute('d'))"
    )
    assert len(lines) == 2
    assert all(line.startswith("M") and "L" in line for line in lines)
    # three seeds at three ratios, and the means of these and of the dense network, of two optimizers
    assert browser.run("return document.querySelectorAll('#curves-1 .scatterlayer .points path').length") == 2 * (9 + 4)


def test_the_switch_draws_curves_against_what_was_achieved(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.draw_all()
    title = "return document.querySelector('#curves-1 .xtitle').textContent"
    assert browser.run(title) == "ratio, of weights"
    before = browser.run("return document.querySelector('#curves-1 .js-line').getAttribute('d')")
    browser.run("document.querySelector('input[value=compression]').click()")
    browser.until(f"{title}.startsWith('compression')")
    after = browser.run("return document.querySelector('#curves-1 .js-line').getAttribute('d')")
    assert before != after
    assert browser.run("return document.querySelector('#curves-1').data[2].x") == pytest.approx([1, 1.25, 1.6667, 5])


def test_sorting_and_filtering_change_the_rows(browser: Browser, page: Path) -> None:
    browser.open(page)
    pruned = browser.heading("pruned %")
    given = browser.column(pruned)
    assert len(given) == 16  # twelve prunings, four whole curves
    browser.control(pruned, "order")
    ascending = browser.column(pruned)
    assert ascending == sorted(given, key=lambda text: float(text.split()[0]))
    assert ascending != given
    browser.control(pruned, "order")
    numbers = [float(text.split()[0]) for text in browser.column(pruned)]
    assert numbers == sorted(numbers, reverse=True)
    box = browser.driver.find_element("css selector", "#leaderboard-table_wrapper input[type=search]")
    box.send_keys('"0.8 of weights"')
    browser.until("return document.querySelectorAll('#leaderboard-table tbody tr').length === 4")


def test_the_leaderboard_is_filtered_by_a_value(browser: Browser, page: Path) -> None:
    browser.open(page)
    rows = "return document.querySelectorAll('#leaderboard-table tbody tr').length"
    buttons = "[...document.querySelectorAll('.dtcc-dropdown .dtcc-list-buttons button')]"
    for heading, value, shown in [
        ("pruner", MARKUP, 8),
        ("ratio", "0.4 of weights", 4),
        ("optimizer", HOSTILE, 8),
    ]:
        place = browser.heading(heading)
        browser.control(place, "dropdown")
        browser.until(f"return {buttons}.length")
        choices = browser.run(f"return {buttons}.map(button => button.innerText.trim())")
        assert value in choices
        browser.run(f"{buttons}[arguments[0]].click()", choices.index(value))
        browser.until(f"{rows} === {shown}")
        assert set(browser.column(place)) == {value}
        browser.run(f"{buttons}[arguments[0]].click()", choices.index(value))
        browser.until(f"{rows} === 16")
        browser.run("document.body.click()")
        browser.until(f"return !{buttons}.length")
    assert browser.errors() == []


def test_hostile_names_are_shown_as_text(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.draw_all()
    assert HOSTILE in browser.column(browser.heading("optimizer"))
    assert MARKUP in browser.column(browser.heading("pruner"))
    assert browser.run("return document.querySelectorAll('img, .plot .main-svg a').length") == 0
    legend = browser.run("return [...document.querySelectorAll('#curves-1 .legendtext')].map(t => t.textContent)")
    assert legend == ["adam", HOSTILE]
    layers = browser.run(
        "return [...document.querySelectorAll('#layers-1 .yaxislayer-above text')].map(t => t.textContent)"
    )
    assert "<b>conv</b>" in layers
    assert browser.run("return document.querySelector('header p').innerText") == "</script><script>alert(1)</script>"
    assert browser.errors() == []  # an open alert would have stopped every command before


def test_a_change_of_the_scheme_recolors_what_is_drawn(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.draw_all()
    ink = "return document.querySelector('#curves-1 .xtick text').style.fill"
    assert browser.run(ink) == "rgb(42, 63, 95)"
    browser.scheme("dark")
    browser.until(f"{ink} === 'rgb(242, 245, 250)'")
    assert browser.run("return document.documentElement.classList.contains('dark')")


def test_the_keyboard_reaches_the_report_and_every_control(browser: Browser, page: Path) -> None:
    browser.open(page)
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    body = browser.driver.find_element("css selector", "body")
    body.send_keys(keys.TAB)
    assert browser.run("return document.activeElement.className") == "skip"
    reached = set()
    for _ in range(60):
        browser.driver.switch_to.active_element.send_keys(keys.TAB)
        reached.add(browser.run("const e = document.activeElement; return e.type || e.className || e.tagName"))
    assert {"A", "search", "button", "scroll", "radio"} <= reached


def test_everything_is_on_paper(make_study: Callable[..., Study], browser: Browser, tmp_path: Path) -> None:
    study = make_study()
    path = tmp_path / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_module, "PAGE_LENGTH", 5)
        path.write_text(render(study.tables, "html", study.suite, details=study.details), encoding="utf-8")
    browser.open(path, scheme="dark")
    assert len(browser.column(0)) == 5
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert len(browser.column(0)) == 16
    assert browser.run("return [...document.querySelectorAll('.plot')].every(p => p.querySelector('svg.main-svg'))")
    assert browser.run("return document.querySelector('details').open")
    browser.until("return document.querySelector('#curves-1 .xtick text').style.fill === 'rgb(42, 63, 95)'")
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert len(browser.column(0)) == 5
    assert browser.errors() == []


def test_without_scripts_the_tables_are_complete(browser: Browser, page: Path) -> None:
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.driver.get(page.as_uri())
        rows = browser.driver.find_elements("css selector", "#leaderboard-table tbody tr")
        assert len(rows) == 16
        assert "Without JavaScript" in browser.driver.find_element("css selector", "header").text
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
