"""The real programs judge the exported files: each in a copy, with a limit, none of them required.

Only programs that read a file and end are asked here; daemons without a dry run are started by
the tests. Nothing of the user's files is run as a program.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hasim.export.base import Check, Deploy
from hasim.export.validators_jobs import Job, judge
from hasim.export.validators_list import jobs

THREADS = 2


def run(folder: Path, deploy: Deploy) -> list[Check]:
    """What every validator says of the files in the exported folder, in a fixed order.

    A file that is there twice, byte for byte, is judged once for each of its places' names.
    """
    with tempfile.TemporaryDirectory(prefix="hasim-validate-") as scratch:
        copy = Path(scratch) / "export"
        shutil.copytree(folder, copy, symlinks=True)
        wanted = list(jobs(copy, deploy))
        with ThreadPoolExecutor(THREADS) as pool:
            return list(_once(wanted, copy, pool))


def _once(wanted: list[Job], copy: Path, pool: ThreadPoolExecutor) -> Iterable[Check]:
    asked = {job.key(copy): job for job in reversed(wanted)}
    answers = {key: pool.submit(judge, job, copy) for key, job in sorted(asked.items())}
    for job in wanted:
        status, tool, detail = answers[job.key(copy)].result()
        yield Check(job.artefact, tool, status, detail)
