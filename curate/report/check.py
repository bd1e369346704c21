"""Checks a work folder, or a release that lies somewhere."""

from __future__ import annotations

from pathlib import Path

from curate.release.verify import verify
from curate.report import funnel
from curate.run.work import Work, is_work


def problems(folder: Path) -> list[str]:
    """What is wrong, a sentence each; nothing where all is well. Of a work: stages that are missing or of an earlier recipe, data
    files that are not as the manifests say, and what is wrong with its release. Reads every file once, about a second a
    gigabyte."""
    if not is_work(folder):
        return verify(folder)
    work = Work(folder)
    earlier = funnel.earlier(folder)
    return [
        *([earlier] if earlier else []),
        *(problem for done in work.stages for problem in done.damage),
        *(problem for done in work.of_role("release") for problem in verify(done.folder)),
    ]
