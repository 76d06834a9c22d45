"""What ``auto`` takes where there is no GPU: by what Numba saves and what its start costs."""

from __future__ import annotations

import importlib.util

import pytest

from npnlp.backend import get_backend
from npnlp.backend.worth import COMPILING, LOADING, seconds_saved

HAS_NUMBA = all(importlib.util.find_spec(name) for name in ("numba", "scipy"))
needs_no_gpu = pytest.mark.skipif(
    get_backend("auto").name == "cupy", reason="auto takes the GPU that works here"
)


def test_time_saved_grows_with_the_work() -> None:
    assert seconds_saved("lstm", 64, 1, 1000, 1) == pytest.approx(0.009)
    assert seconds_saved("lstm", 128, 2, 2000, 3) == pytest.approx(0.009 * 24)
    assert seconds_saved("transformer", 64, 1, 10**6, 100) == 0


@needs_no_gpu
def test_little_work_is_numpys() -> None:
    assert get_backend("auto", LOADING / 2).name == "numpy"


@needs_no_gpu
@pytest.mark.skipif(HAS_NUMBA, reason="Numba is installed here")
def test_much_work_is_numpys_without_numba() -> None:
    chosen = get_backend("auto", 10 * COMPILING)
    assert chosen.name == "numpy"
    assert "numba" not in chosen.reason


@needs_no_gpu
@pytest.mark.peers
@pytest.mark.skipif(not HAS_NUMBA, reason="Numba is not installed")
def test_work_worth_compiling_is_numbas() -> None:
    chosen = get_backend("auto", 2 * COMPILING)
    assert chosen.name == "numba"
    assert chosen.reason.startswith("auto chose numba: it saves some 30 s and starts in ")
    assert "\n" not in chosen.reason


@needs_no_gpu
@pytest.mark.peers
@pytest.mark.skipif(not HAS_NUMBA, reason="Numba is not installed")
def test_what_is_compiled_already_is_worth_less_work(monkeypatch: pytest.MonkeyPatch) -> None:
    from npnlp.backend.compiled.backend import CompiledBackend

    between = (LOADING + COMPILING) / 2
    for stored, name in ((True, "numba"), (False, "numpy")):
        monkeypatch.setattr(
            CompiledBackend, "is_compiled", lambda self, cell, stored=stored: stored
        )
        chosen = get_backend("auto", between, "gru")
        assert chosen.name == name
        assert str(LOADING if stored else f"{COMPILING:g}") in chosen.reason
