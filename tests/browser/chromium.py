"""Debian's chromium without a window, driven by selenium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WIDE, NARROW = (1920, 1080), (360, 800)
PROGRAMS = (Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver"))
SWITCHES = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
    # Chromium lowers the priority of a page that nobody sees, and under load that page would not run.
    *("--disable-renderer-backgrounding", "--disable-background-timer-throttling"),
    "--disable-backgrounding-occluded-windows",
)


@contextmanager
def browser(size: tuple[int, int] = WIDE) -> Iterator[Any]:
    """A chromium with a window of this size."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for switch in SWITCHES:
        options.add_argument(switch)
    options.binary_location = str(PROGRAMS[0])
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(service=webdriver.chrome.service.Service(str(PROGRAMS[1])), options=options)
    try:
        resize(driver, size)
        yield driver
    finally:
        driver.quit()


def resize(driver: Any, size: tuple[int, int]) -> None:
    """Give the page this size; a window cannot be as narrow as a telephone."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
