"""Host and GPU are told apart, with a device that only counts."""

from __future__ import annotations

from rms_deploy.benchmark import device_times
from rms_deploy.benchmark.device_times import DeviceTimes, split
from rms_deploy.runtime.tensorrt_session import BoundRun


class Device:
    """A GPU that takes a second for each part of a run that was put on its stream, in microseconds."""

    def __init__(self):
        self.parts, self.waits = [], 0

    def elapsed(self, enqueue):
        before = len(self.parts)
        enqueue()
        return {"run": 200.0, "up": 30.0, "down": 4.0}[self.parts[before]]

    def synchronize(self):
        self.waits += 1


def test_each_part_is_measured_where_it_happens(monkeypatch):
    now = [0]

    def launch():
        now[0] += 7000
        device.parts.append("run")

    device = Device()
    monkeypatch.setattr(device_times, "perf_counter_ns", lambda: now[0])
    run = BoundRun(device, launch, lambda: device.parts.append("up"), lambda: device.parts.append("down"))
    assert split(run) == DeviceTimes(enqueue=7.0, compute=200.0, upload=30.0, download=4.0)
    assert device.waits >= device.parts.count("run") / 2, "the stream is empty before each launch"


def test_launches_are_told_by_their_median():
    each = [DeviceTimes(*[float(value)] * 4) for value in (1, 9, 2)]
    assert DeviceTimes.median_of(each) == DeviceTimes(2.0, 2.0, 2.0, 2.0)
    assert DeviceTimes.median_of([]) is None
