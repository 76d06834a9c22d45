"""Whether ranks of MPI can be started here, and how."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.tables import ROOT


def mpiexec() -> Path | None:
    """That of the environment that runs the tests, else that of the system."""
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    return Path(found) if found else None


def missing() -> str:
    """What these tests lack; empty where they can run."""
    if importlib.util.find_spec("mpi4py") is None:
        return "mpi4py is not installed"
    if mpiexec() is None:
        return "there is no mpiexec"
    loads = [sys.executable, "-c", "from mpi4py import MPI"]
    done = subprocess.run(loads, capture_output=True, timeout=900, check=False)
    return "mpi4py finds no MPI library" if done.returncode else ""


MISSING = missing()
#: Open MPI wants to be told that there may be more ranks than cores, that root may use it,
#: and that other programs use the cores too.
ALLOWED = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_ALLOW_RUN_AS_ROOT": "1", "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PYTHONPATH": str(ROOT),
}  # fmt: skip
