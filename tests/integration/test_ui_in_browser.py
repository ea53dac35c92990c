"""Dagster's pages in a real browser: the graph, metadata, a backfill by clicking, a failed check.

Belongs here: what a person sees and presses. Does not: what the parts do (`test_assets.py`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyspark.sql import SparkSession
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import element_to_be_clickable
from selenium.webdriver.support.wait import WebDriverWait

from assets.hours import KEY_FORMAT
from assets.tables import key_of
from config.settings import Settings
from lakehouse.catalog import CATALOG_NAME
from lakehouse.definitions import BY_NAME, PAYMENTS
from lakehouse.log_keeper import keep_log
from lakehouse.refs import read_head
from tests.browsers import BROWSER, BROWSERS, QUIET
from tests.conductor import Conductor
from tests.events import event_id, wire
from tests.pipeline import Pipeline
from tests.reference import contents
from tests.streams import dirty

DRIVER = shutil.which("chromedriver")
DRIVEN = ("--headless=new", *QUIET, "--disable-dev-shm-usage", "--window-size=1600,1000")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        BROWSER is None or DRIVER is None,
        reason=f"no browser that can be driven here (looked for chromedriver and {', '.join(BROWSERS)})",
    ),
]
SECONDS = 180.0
# Two hours that hold data and have closed: the first of them has a row that is damaged.
HOURS = [
    (datetime.now(UTC) - timedelta(days=2, hours=ago)).replace(minute=30, second=0, microsecond=0)
    for ago in (1, 0)
]
KEYS = [hour.strftime(KEY_FORMAT) for hour in HOURS]
OF_PAYMENTS = "/assets/curated/payments"
# The texts within the part of the window that graphs are drawn in.
_IN_SIGHT = """
return [...document.querySelectorAll("foreignObject *")].filter(e => {
  const at = e.getBoundingClientRect();
  const isWithin = at.top > 160 && at.left > 240 && at.bottom < innerHeight && at.right < innerWidth;
  return isWithin && !e.children.length;
}).map(e => e.textContent.trim());"""


@pytest.fixture(scope="module")
def pipeline(stack: Settings, catalog: RestCatalog, spark: SparkSession) -> Pipeline:
    """Filled once: whoever damages it puts it right again."""
    filled = Pipeline(stack, catalog, spark)
    filled.send_lines(dirty(300, seed=7).lines())
    for name, hour in zip(("damaged", "good"), HOURS, strict=True):
        filled.send_lines([wire(name, event_ts=hour.isoformat(), ingest_ts=hour.isoformat())])
    filled.run()
    keep_log(catalog, spark)
    return filled


@pytest.fixture(scope="module")
def conductor(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conductor]:
    first = f"{HOURS[0] - timedelta(days=1):%Y-%m-%dT%H}:00Z"
    folder = tmp_path_factory.mktemp("ui")
    found = Conductor(pipeline, folder, PAYWAVE_CONDUCTOR__FIRST_HOUR=first)
    try:
        yield found
    finally:
        found.end()


class Browser:
    """A window on the pages. Whatever it is told to press, it waits for."""

    def __init__(self, url: str, profile: Path, pictures: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(BROWSER)
        for argument in (*DRIVEN, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        self.driver = webdriver.Chrome(options, Service(str(DRIVER)))
        self._url, self._pictures = url, pictures

    def open(self, path: str) -> None:
        self.driver.get(f"{self._url}{path}")

    @property
    def text(self) -> str:
        """All that can be read on the page."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def wait_for(self, *texts: str, seconds: float = SECONDS) -> None:
        """Wait until the page shows all of these."""
        try:
            WebDriverWait(self.driver, seconds, ignored_exceptions=[StaleElementReferenceException]).until(
                lambda _: all(text in self.text for text in texts)
            )
        except TimeoutException:
            missing = [text for text in texts if text not in self.text]
            raise AssertionError(f"the page does not show {missing} but {self.text}") from None

    def find(self, xpath: str) -> WebElement:
        """Wait for an element that can be pressed."""
        return WebDriverWait(self.driver, SECONDS).until(element_to_be_clickable((By.XPATH, xpath)), xpath)

    def click(self, xpath: str) -> None:
        """Wait for an element and press it: again, where the page draws it anew at that moment."""

        def is_pressed(driver: webdriver.Chrome) -> bool:
            found = element_to_be_clickable((By.XPATH, xpath))(driver)
            if isinstance(found, WebElement):
                found.click()
            return bool(found)

        redrawn = [StaleElementReferenceException, ElementClickInterceptedException]
        WebDriverWait(self.driver, SECONDS, ignored_exceptions=redrawn).until(is_pressed, xpath)

    def press(self, label: str, within: str = "") -> None:
        """Press the button that says so."""
        self.click(f"{within}//button[.//*[normalize-space()='{label}'] or normalize-space()='{label}']")

    def picture(self, name: str) -> None:
        assert self.driver.save_screenshot(str(self._pictures / f"{name}.png"))


@pytest.fixture(scope="module")
def browser(conductor: Conductor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests; its pictures go to `PAYWAVE_SCREENSHOTS`, if that is set."""
    folder = tmp_path_factory.mktemp("browser")
    pictures = Path(os.environ.get("PAYWAVE_SCREENSHOTS", folder))
    pictures.mkdir(parents=True, exist_ok=True)
    found = Browser(conductor.url, folder / "profile", pictures)
    try:
        yield found
    finally:
        found.driver.quit()


def test_the_graph_shows_every_table_and_what_it_is_made_of(browser: Browser) -> None:
    browser.open("/asset-groups")
    browser.wait_for("Global asset lineage", *{name.split(".")[0] for name in BY_NAME}, "kafka", "snowflake")
    browser.find("//*[name()='svg']//*[name()='path']")
    browser.picture("graph")
    browser.open("/locations/__repository__@paywave/asset-groups/curated/lineage")
    zoom_out_to(browser, "payment_events", "event_versions", "payments", "transactions", "publish_log")
    WebDriverWait(browser.driver, SECONDS).until(lambda _: "Loading" not in browser.text, "still loading")
    edges = browser.driver.find_elements(By.XPATH, "//*[name()='svg']//*[name()='path']")
    assert len(edges) >= 4
    browser.picture("graph-of-curated")


def zoom_out_to(browser: Browser, *names: str) -> None:
    """Zoom out until all of these are within the window."""

    def is_shown(_: object) -> bool:
        if set(names) <= set(browser.driver.execute_script(_IN_SIGHT)):
            return True
        browser.click("//button[.//*[@aria-label='zoom_out']]")
        return False

    WebDriverWait(browser.driver, SECONDS, poll_frequency=1).until(is_shown, f"not all of {names} appeared")


def test_an_observation_says_which_snapshot_it_is_of_and_how_to_read_it_again(
    browser: Browser, conductor: Conductor, pipeline: Pipeline
) -> None:
    head = read_head(pipeline.catalog, PAYMENTS)
    snapshot = head.snapshot.snapshot_id
    browser.open(f"{OF_PAYMENTS}?view=events")
    browser.click("//*[@aria-label='observation']")
    browser.wait_for("snapshot_id", str(snapshot))
    query = f'paywave query "SELECT count(*) FROM {PAYMENTS}" --snapshot {PAYMENTS}={snapshot}'
    for text in (f"dagster/row_count\n{len(pipeline.rows(PAYMENTS)):,}", "writer\ncurated", query):
        assert text in browser.text
    for topic, partitions in head.offsets.topics.items():
        assert f'"{topic}"' in browser.text
        assert all(f'"{number}": {offset}' in browser.text for number, offset in partitions.items())
    browser.picture("observation")


@pytest.mark.slow  # beside the failed check below, whose runs are launched by clicking too
def test_hours_are_folded_again_by_clicking(
    browser: Browser, conductor: Conductor, pipeline: Pipeline
) -> None:
    before = contents(pipeline)
    damaged = f"array_contains(event_ids, '{event_id('damaged')}')"
    pipeline.spark.sql(f"UPDATE {CATALOG_NAME}.{PAYMENTS} SET amount = 1 WHERE {damaged}")
    assert contents(pipeline) != before
    launch_by_clicking(browser, f"[{KEYS[0]}...{KEYS[1]}]")
    conductor.wait_until(lambda: statuses(conductor) == {"SUCCESS"}, "the backfill succeeds")
    assert contents(pipeline) == before
    browser.open(f"{OF_PAYMENTS}?view=partitions&partition={KEYS[0]}")
    browser.wait_for(
        f"{KEYS[0]}\nMaterialized\n", "Failed (0)", "rows_added\n1", "rows_deleted\n1", "attempts\n1"
    )
    browser.picture("partitions")


def launch_by_clicking(browser: Browser, hours: str) -> None:
    browser.open(f"{OF_PAYMENTS}?view=partitions")
    browser.press("Materialize…")
    browser.press("Confirm", "//*[@role='dialog']")  # one command folds both tables: so it asks
    field = browser.find("//*[@role='dialog']//input[@type='text']")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(hours, Keys.ENTER)
    browser.wait_for("2 partitions")
    browser.picture("backfill-to-launch")
    browser.press("Launch backfill", "//*[@role='dialog']")


def statuses(conductor: Conductor) -> set[str]:
    """Of the runs of backfills of payments."""
    payments = "/".join(key_of(PAYMENTS).path)
    return {
        run.status for run in conductor.runs() if payments in run.assets and "dagster/backfill" in run.tags
    }


def test_a_failed_check_names_the_row_that_stands_twice(browser: Browser, pipeline: Pipeline) -> None:
    table = pipeline.catalog.load_table(PAYMENTS)
    payments, before = f"{CATALOG_NAME}.{PAYMENTS}", table.current_snapshot()
    assert before is not None
    good = f"array_contains(event_ids, '{event_id('good')}')"
    pipeline.spark.sql(f"INSERT INTO {payments} SELECT * FROM {payments} WHERE {good}")
    ((doubled,),) = pipeline.spark.sql(f"SELECT DISTINCT business_key FROM {payments} WHERE {good}").collect()
    try:
        browser.open(f"{OF_PAYMENTS}?view=checks&checkDetail=unique_key")
        browser.press("Execute all")
        browser.wait_for(f"rows share their key, the first of them: business_key {doubled}", "Failed")
        browser.picture("failed-check")
    finally:
        pipeline.spark.sql(
            f"CALL {CATALOG_NAME}.system.rollback_to_snapshot('{PAYMENTS}', {before.snapshot_id})"
        )
    browser.press("Execute")
    browser.wait_for("no two rows of", "Passed")
    browser.picture("check-that-passes-again")
