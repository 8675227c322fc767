"""The report in a real browser: its script runs, and nothing is asked of any network.

Skipped where there is no Chromium.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from burnish.watch.report import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def browse(page: Path) -> tuple[str, list[str], list[str]]:
    """The page after its script ran, what it wrote to the console, and what it asked for."""
    found = [place for name in BROWSERS if (place := shutil.which(name))]
    if not found:
        pytest.skip("there is no Chromium here")
    log = page.with_suffix(".net.json")
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    own = [f"--user-data-dir={page.parent / 'profile'}", f"--log-net-log={log}", "--host-resolver-rules=MAP * 0.0.0.0"]
    arguments = [found[0], *quiet, *own, "--enable-logging=stderr", "--dump-dom", f"file://{page}"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    requests = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # What the browser asks for by itself (the time, its updates) was initiated by no page.
    asked = {request["url"] for request in requests if request.get("initiator", "not an origin") != "not an origin"}
    return done.stdout, console, sorted(url for url in asked if not url.startswith(("file:", "data:")))


def test_it_works_and_asks_for_nothing(run_folder):
    page = write_report(run_folder())
    probe = "document.querySelector('.area').dispatchEvent(new PointerEvent('pointermove', {clientX: 300}));"
    text = page.read_text()
    page.write_text(
        re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", text).replace("</script>", f"{probe}</script>")
    )
    shown, console, asked = browse(page)
    assert console == []
    assert asked == []
    assert re.search(r'<output class="tooltip"[^>]*>step [\d,]+: train [\d.]+', shown), "the tooltip shows the value"


def test_its_own_policy_lets_its_own_script_run_and_no_other(run_folder):
    page = write_report(run_folder())
    _, console, _ = browse(page)
    assert console == []
    page.write_text(page.read_text().replace("</main>", '</main><script>document.title = "stolen"</script>'))
    shown, console, _ = browse(page)
    assert "stolen</title>" not in shown
    assert len(console) == 1


def test_the_browser_would_tell(tmp_path):
    """A page that asks for something and complains: what the other tests look at is not blind."""
    page = tmp_path / "bad.html"
    page.write_text('<img src="http://burnish.example/x.png"><script>console.error("broken")</script>')
    _, console, asked = browse(page)
    assert any("broken" in line for line in console)
    assert any("burnish.example" in url for url in asked)
