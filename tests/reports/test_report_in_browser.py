"""A report in a real browser, opened as a file."""

import pytest
from recordings import Attempt

from benchmarks.browser import NEEDED, browser, chromium
from vla_mbpo.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not chromium(), reason=NEEDED)]


@pytest.fixture(scope="module")
def report(spec, tmp_path_factory):
    folder = tmp_path_factory.mktemp("episodes")
    attempt = Attempt(spec, rows=40, success=32)
    attempt.decide(2, 0, "table")
    attempt.risk(3, True)
    attempt.takeover(10, 20)
    attempt.record(folder)
    assert main(["record", "report", str(folder)]) == 0
    return folder / "report.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_a_report_can_be_read_by_everybody_and_loads_nothing(report, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="`make setup-dev`")
    with browser(width) as context:
        page = context.new_page()
        said = []
        page.on("console", lambda line: said.append(line.text))
        page.emulate_media(color_scheme=scheme)
        page.goto(report.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        assert context.asked == [report.as_uri()] and not said
        assert page.evaluate("document.images.length") == 4
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")] == []
