"""The CuPy backend on a stand-in that captures and replays (``tests/support/device/``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

from npnlp.backend.cuda import recurrence
from npnlp.backend.cuda.backend import CupyBackend
from npnlp.backend.cuda.products import Namespace
from tests.backend.cuda.test_kernels_recurrence import ShimDevice
from tests.support.cupy_on_shim import CupyOnShim, ShimKernels
from tests.support.device.arrays import Device, DeviceArray, opened
from tests.support.device.module import FakeCupy


class CapturingKernels(ShimKernels):
    """Kernels whose launches are written down."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def get(self, file: str, function: str, *options: str) -> Any:
        kernel = super().get(file, function, *options)

        def launch(grid: Any, block: Any, arguments: Any, **keywords: Any) -> None:
            for argument in arguments:
                assert isinstance(argument, DeviceArray | np.generic), function
            plain = opened(arguments)
            self.device.do(lambda: kernel(grid, block, plain, **keywords))

        return launch


class CapturingDevice(ShimDevice):
    """Recurrences whose launches are written down."""

    def bound(self, device: Device) -> CapturingDevice:
        self.device = device
        return self

    def launch(self, chosen: Any, name: str, blocks: int, arguments: Any) -> None:
        plain, launch = opened(list(arguments)), super().launch
        self.device.do(lambda: launch(chosen, name, blocks, plain))

    def launch_step(self, file: str, options: Any, name: str, grid: Any, arguments: Any) -> None:
        plain, launch = opened(list(arguments)), super().launch_step
        self.device.do(lambda: launch(file, options, name, grid, plain))


class CapturingBackend(CupyOnShim):
    """The CuPy backend on the stand-in. ``captured`` False: each kernel is launched by itself."""

    asarray = CupyBackend.asarray
    to_numpy = CupyBackend.to_numpy
    synchronize = CupyBackend.synchronize

    def __init__(self, *, captured: bool = True) -> None:
        super().__init__()
        cupy = FakeCupy()
        self.device, self.captured = cupy.device, captured
        self.kernels = CapturingKernels(cupy.device)
        self.xp = Namespace(cupy, self.kernels)
        self.recurrent = CapturingDevice().bound(cupy.device)

    @contextmanager
    def in_place(self) -> Iterator[CapturingBackend]:
        """Recurrences of this backend find its device."""
        with mock.patch.object(recurrence, "device_of", return_value=self.recurrent):
            yield self
        assert not self.device.memory.faults
