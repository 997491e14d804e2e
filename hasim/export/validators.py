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
from hasim.export.validators_list import jobs, without_dry_run
from hasim.export.validators_readback import read_back
from hasim.workers import result_of, undisturbed

THREADS = 2


def run(folder: Path, deploy: Deploy) -> list[Check]:
    """What every validator says of the files in the exported folder, in a fixed order.

    A file that is there twice, byte for byte, is judged once for each of its places' names.
    """
    with tempfile.TemporaryDirectory(prefix="hasim-validate-") as scratch:
        copy = Path(scratch) / "export"
        shutil.copytree(folder, copy, symlinks=True)
        read = read_back(copy, deploy)
        wanted = list(jobs(copy, deploy))
        with ThreadPoolExecutor(THREADS) as pool:
            return [*read, *_once(wanted, copy, pool), *without_dry_run(copy, deploy)]


def _once(wanted: list[Job], copy: Path, pool: ThreadPoolExecutor) -> Iterable[Check]:
    keys = [job.key(copy) for job in wanted]
    first = dict(reversed(list(zip(keys, wanted, strict=True))))
    with undisturbed():
        answers = {key: pool.submit(judge, first[key], copy) for key in dict.fromkeys(keys)}
    for key, job in zip(keys, wanted, strict=True):
        status, tool, detail = result_of(answers[key])
        yield Check(job.artefact, tool, status, detail)
