"""Size of the page of a sweep, and what opening and scrolling it cost: `python -m tests.browser.measure [POINTS]`."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from inject.sweep.report.write import HTML, write_reports
from tests.browser.chromium import NARROW, WIDE, browser, resize
from tests.support import sweep_journal

TIMES = 5
EMPTY = "data:text/html,<title>nothing</title>"
FRAMES, STEP, LIMIT = 60, 150, 150
"""Frames, pixels and seconds at most of the scrolling."""
SCROLL = """
const [frames, step, done] = arguments, top = document.getElementById("list").offsetTop;
let frame = 0;
const next = () => {
  scrollTo(0, top + step * ++frame);
  if (frame < frames) requestAnimationFrame(next); else done();
};
next();
"""
COMPLETE = "return performance.getEntriesByType('navigation')[0].loadEventEnd"


def opened(driver: Any, url: str) -> tuple[float, float]:
    """Milliseconds from the navigation to the end of the load event, and those of the CPU that its thread took.

    Medians of several times. The second depends less on what else the machine does.
    """
    times, ticks = [], []
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    for _ in range(TIMES):
        driver.get("about:blank")
        before = worked(driver)
        driver.get(url)
        times.append(float(driver.execute_script(COMPLETE)))
        after = worked(driver)
        ticks.append(1000 * (after - before if after > before else after))
    driver.execute_cdp_cmd("Performance.disable", {})
    return statistics.median(times), statistics.median(ticks)


def scrolled(driver: Any) -> float:
    """Milliseconds of the CPU for each frame while the points go by, STEP pixels a frame."""
    driver.set_script_timeout(LIMIT)
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    before = worked(driver)
    driver.execute_async_script(SCROLL, FRAMES, STEP)
    after = worked(driver)
    driver.execute_cdp_cmd("Performance.disable", {})
    return 1000 * (after - before) / FRAMES


def worked(driver: Any) -> float:
    """Seconds that the page's thread was at work."""
    metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))


def main() -> None:
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    with tempfile.TemporaryDirectory() as name, browser() as driver:
        directory = Path(name)
        sweep_journal.write(directory, sweep_journal.journal(points))
        account = write_reports([directory], directory)
        print(account.totals.line)
        print(f"{(directory / HTML).stat().st_size} bytes")
        for size in (WIDE, NARROW):
            resize(driver, size)
            page, nothing = opened(driver, (directory / HTML).as_uri()), opened(driver, EMPTY)
            for what, own, empty in zip(("until it is complete", "of the CPU"), page, nothing):
                print(f"{size[0]}x{size[1]}: {own:.0f} ms {what}; an empty page: {empty:.0f} ms")
            driver.get((directory / HTML).as_uri())
            print(f"{size[0]}x{size[1]}: {scrolled(driver):.1f} ms of the CPU for each frame of {STEP} pixels")


if __name__ == "__main__":
    main()
