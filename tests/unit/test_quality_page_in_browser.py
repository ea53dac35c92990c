"""The quality page in a real browser: nothing is wider than a phone, and nothing complains."""

from __future__ import annotations

import json
import re
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from streaming.quality_page.model import page_of
from streaming.quality_page.render import render
from tests.browsers import BROWSER, BROWSERS, QUIET
from tests.pages import HOSTILE, full, material

PAGES = {
    "empty": material(),
    "hostile": full(HOSTILE),
    "thirty": full([f"partner-with-a-long-name-{i}" for i in range(30)]),
}
# The page forbids scripts, so it is measured from outside: in a frame of a page that may run one.
MEASURE = """<!doctype html>
<iframe id=page width={width} height=900 src="page.html"></iframe><pre id=found></pre>
<script>
document.getElementById("page").onload = event => {{
  const page = event.target.contentDocument, width = page.documentElement.clientWidth;
  const position = e => getComputedStyle(e).position;
  const isForEarsOnly = e => e.closest("thead") && position(e.closest("thead")) == "absolute";
  const wide = [...page.querySelectorAll("body *")].filter(e =>
    e.getBoundingClientRect().right > width + 1 && !isForEarsOnly(e));
  const text = [...page.querySelectorAll("svg text")].map(e => e.getBoundingClientRect().height);
  document.getElementById("found").textContent = JSON.stringify({{
    scrolls: page.documentElement.scrollWidth - width, wide: wide.map(e => e.outerHTML.slice(0, 120)),
    headings: [...page.querySelectorAll("h1, h2")].map(e => e.textContent.trim()),
    smallest: Math.min(99, ...text),
    paper: getComputedStyle(page.body).backgroundColor,
  }});
}};
</script>"""


@pytest.mark.skipif(BROWSER is None, reason=f"no browser here (looked for {', '.join(BROWSERS)})")
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone_and_a_desk_and_complains_of_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(render(page_of(PAGES[name])), encoding="utf-8")
    phone, desk, dark = (look(tmp_path, width, *more) for width, more in ((390, ()), (1280, ()), (390, DARK)))
    for seen in (phone, desk):
        assert seen["scrolls"] <= 0 and seen["wide"] == []
        assert seen["headings"][0] == "Quality of payments"
        assert {"Does it balance?", "What needs a person?", "Quarantine", "Reconciliation"} <= set(
            seen["headings"]
        )
        assert seen["smallest"] >= 10  # pixels: legible
    assert phone["paper"] != dark["paper"]


DARK = ("--blink-settings=preferredColorScheme=0",)


def look(folder: Path, width: int, *more: str) -> dict[str, Any]:
    """Open the page that wide, and return what was measured of it. The browser must not complain."""
    outside = folder / "outside.html"
    outside.write_text(MEASURE.format(width=width))
    profile = folder / f"profile-{width}-{len(more)}"
    wanted = ("--allow-file-access-from-files", f"--user-data-dir={profile}", "--virtual-time-budget=5000")
    command = [
        str(BROWSER),
        "--headless",
        *QUIET,
        "--enable-logging=stderr",
        *more,
        *wanted,
        "--dump-dom",
        outside.as_uri(),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    complaints = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    assert not complaints, complaints
    found = re.search(r'<pre id="found">(.+?)</pre>', run.stdout, re.DOTALL)
    assert found, run.stdout[-500:] + run.stderr[-500:]
    seen: dict[str, Any] = json.loads(unescape(found.group(1)))
    return seen
