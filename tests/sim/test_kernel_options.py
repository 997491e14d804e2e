"""What the kernel reaches into numba for: no reference counts, a cache that knows every file.

`_nrt=False` is private to numba, and so is what layout.jit does; should an upgrade ignore it, the
kernel would still be right, but several times slower. Effects are asserted, never times.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba import njit
from numba.core.runtime import _nrt_python, rtsys

from hasim.sim import kernel
from hasim.sim.kernel import draw
from hasim.sim.kernel.layout import entry
from hasim.sim.warm import compile_all

HASIM = Path(kernel.__file__).resolve().parents[2]
# One small entry point, its helper in another file: door.perform calls unit of draw.py.
DRAW = """
import numpy as np
from hasim.sim import kernel
from hasim.sim.kernel import door
from hasim.sim.kernel.handle import Kernel
from hasim.sim.kernel.layout import FIELDS, N_GLOBALS
shapes = {1: 1, 2: (1, 2)}
k = Kernel(**{n: np.zeros(N_GLOBALS if n == "g" else shapes[d], t) for n, (t, d) in FIELDS.items()})
print(kernel.CACHE_FOLDER.name, door.uniform(k, 3, 4), kernel.__file__)
"""


def python(code: str, path: Path, cache: Path | None = None) -> str:
    """What a new process prints that imports hasim from `path`."""
    env = dict(os.environ, PYTHONPATH=str(path))
    if cache is not None:
        env["HASIM_CACHE_DIR"] = str(cache)
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False, cwd=path
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """{name: (size, time of the last change)} of all files below."""
    return {
        str(f.relative_to(folder)): (f.stat().st_size, f.stat().st_mtime_ns)
        for f in sorted(folder.rglob("*"))
        if f.is_file()
    }


def row_user(rows, i):
    """Holds one of two arrays, so that its reference count matters; takes records as helpers do."""
    part = rows[i:]
    for j in range(i, rows.size):
        if rows[j]["n"] > i:
            part = rows[j:]
        part[0]["n"] += 1
    return part[0]["n"]


def llvm(function) -> str:
    function(np.zeros(3, [("n", "i8")]), 1)
    return "\n".join(function.inspect_llvm().values())


def test_the_option_removes_reference_counts() -> None:
    options = {"nogil": True, "error_model": "numpy"}
    counted = llvm(njit(**options)(row_user))
    free = llvm(njit(_nrt=False, **options)(row_user))
    assert "NRT_decref" in counted  # the test can see them
    assert "NRT_" not in free


def test_entry_points_ask_for_it() -> None:
    from hasim.sim.kernel.loop import advance

    for dispatcher in (advance, draw.philox, draw.sample):
        assert dispatcher.targetoptions["_nrt"] is False
    assert entry(row_user).targetoptions["_nrt"] is False


def test_the_machine_code_of_the_kernel_never_allocates() -> None:
    compile_all()
    code = {f.name: f.read_bytes() for f in kernel.CACHE_FOLDER.rglob("*.nbc")}
    assert any("perform" in name for name in code)
    for name, data in code.items():
        assert b"numba" in data, name  # symbols are in plain text
        for word in (b"NRT_incref", b"NRT_decref", b"NRT_MemInfo", b"NRT_Allocate", b"malloc"):
            assert word not in data, (name, word)


def test_a_run_allocates_nothing_through_numba() -> None:
    _nrt_python.memsys_enable_stats()
    compile_all()
    before = rtsys.get_allocation_stats()
    compile_all()
    assert rtsys.get_allocation_stats() == before
    njit(lambda n: np.zeros(n).sum())(3)
    assert rtsys.get_allocation_stats() != before  # the test can see allocations


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a copy of the package."""
    shutil.copytree(HASIM, tmp_path / "src" / "hasim", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "src"


def folder_of(package: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder that the kernel in this package would use."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", numba.config.CACHE_DIR)
    init = package / "hasim" / "sim" / "kernel" / "__init__.py"
    spec = importlib.util.spec_from_file_location("copied_kernel", init)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CACHE_FOLDER


def test_every_file_of_the_kernel_names_its_cache(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {folder_of(copy, monkeypatch)}
    assert seen == {kernel.CACHE_FOLDER}
    sim = copy / "hasim" / "sim"
    edited = [*sorted((sim / "kernel").glob("*.py")), sim / "trace.py"]
    for file in edited:
        file.write_text(file.read_text() + "\n# edited\n")
        seen.add(folder_of(copy, monkeypatch))
    assert len(seen) == 1 + len(edited)
    (sim / "kernel" / "added.py").write_text("ADDED = 1\n")
    last = folder_of(copy, monkeypatch)
    assert last not in seen
    (sim / "world.py").write_text("")  # no part of compiled code
    assert folder_of(copy, monkeypatch) == last


def test_the_versions_of_the_compilers_name_the_cache(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata as metadata

    monkeypatch.setattr(metadata, "version", lambda name: "0.0")
    assert folder_of(copy, monkeypatch) != kernel.CACHE_FOLDER


def test_modules_that_compiled_code_imports_are_in_the_hash() -> None:
    """A constant of any other module would be served stale."""
    allowed = {"hasim.sim.trace"}
    for file in (HASIM / "sim" / "kernel").glob("*.py"):
        for line in file.read_text().splitlines():
            words = line.split()
            if words[:1] == ["from"] and words[1].startswith("hasim"):
                inside = words[1].startswith("hasim.sim.kernel")
                assert inside or words[1] in allowed, (file.name, line)


def test_an_edit_takes_effect_and_a_second_process_compiles_nothing(
    copy: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    first = python(DRAW, copy, cache).split()
    assert str(copy) in first[2]
    compiled = files(cache)
    assert any(name.endswith(".nbc") for name in compiled)
    assert python(DRAW, copy, cache).split() == first
    assert files(cache) == compiled
    helper = copy / "hasim" / "sim" / "kernel" / "draw.py"
    text = helper.read_text()
    assert text.count("* 1.1102230246251565e-16") == 1
    helper.write_text(text.replace("* 1.1102230246251565e-16", "* 0.5551115123125783e-16"))
    edited = python(DRAW, copy, cache).split()
    assert edited[0] != first[0]
    assert float(edited[1]) == pytest.approx(float(first[1]) / 2, rel=1e-12)


def test_a_second_process_loads_the_whole_kernel_from_the_cache() -> None:
    compile_all()
    before = files(kernel.CACHE_FOLDER)
    assert kernel.is_compiled()
    python("from hasim.sim.warm import compile_all; compile_all()", HASIM.parent)
    assert files(kernel.CACHE_FOLDER) == before
