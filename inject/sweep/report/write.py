"""The files of a report. A sweep writes them at its end, and `inject report` at any time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Optional

from inject.errors import InjectError
from inject.report import junit
from inject.store import write_file
from inject.sweep.report.account import SweepAccount, account_of
from inject.sweep.report.cobertura import cobertura
from inject.sweep.report.debug_lines import BuildTree
from inject.sweep.report.html import page
from inject.sweep.report.lcov import listings, source_tracefile, tracefile
from inject.sweep.report.merge import merged, read, text_of
from inject.sweep.report.source import SourceCalls, SourceView, located, view
from inject.sweep.report.verdicts import ktap_of, verdicts

HTML, LCOV, COBERTURA = "report.html", "report.info", "cobertura.xml"
SOURCE = "source.info"
"""A tracefile of the kernel's source, if that is at hand."""
JUNIT, KTAP, JSONL = "junit.xml", "report.ktap", "report.jsonl"


def write_reports(journals: Sequence[Path], directory: Path, tree: Optional[BuildTree] = None) -> SweepAccount:
    """Merge ``journals``, or those in directories, and write all reports of them to ``directory``.

    The page shows the source in the ``tree`` of the kernel. Raises InjectError for what is not the journals of one
    sweep, if a file cannot be written, and without a library, and BadTree if the tree is of another kernel.
    """
    account = account_of(merged([read(path) for path in journals], directory))
    source = _source(account, tree) if tree is not None else None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        some = listings(account)
        for listing in some:
            _write(directory / listing.path, [listing.text])
        _write(directory / HTML, [page(account, directory, view(source) if source else SourceView())])
        _write(directory / LCOV, tracefile(account, some))
        if tree is not None and source is not None:
            _write(directory / SOURCE, source_tracefile(account, source.calls, tree.source.absolute()))
        _write(directory / COBERTURA, [cobertura(account, some, directory)])
        _write(directory / KTAP, ktap_of(account))
        _write(directory / JSONL, text_of(account.lines))
    except OSError as error:
        raise InjectError(f"cannot write {error.filename or directory}: {error.strerror}") from None
    junit.write(directory / JUNIT, verdicts(account), account.name, properties={"totals": account.totals.line})
    return account


def _source(account: SweepAccount, tree: BuildTree) -> SourceCalls:
    """The calls in the source of the ``tree``."""
    for line in account.lines:
        if line["type"] == "kernel":
            tree.require(*(str(line.get(key, "")) for key in ("release", "config", "build_id")))
    callers = {row.point.stack[0] for row in account.rows if row.point.stack}
    return located(account.rows, tree.places(sorted(callers)), tree.text)


def _write(path: Path, parts: Iterable[str]) -> None:
    write_file(path, "".join(parts), mode=0o644, parents=True)
