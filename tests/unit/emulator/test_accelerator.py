"""The choice between KVM and emulation is true, explained, bounded and remembered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedplate.emulator import accelerator
from bedplate.emulator.options import Acceleration, Accelerator
from bedplate.toolchain.run import Toolbox

pytestmark = pytest.mark.tools


def test_no_kvm_device_is_said(toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "_DEVICE", tmp_path / "kvm")
    answer = accelerator.choose(toolbox)
    assert answer.kind is Acceleration.TCG
    assert "cannot be opened (No such file or directory)" in answer.reason


def test_kvm_device_that_is_none(toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A file that opens like the device does, on a host whose KVM may or may not work: the probe decides, in words.
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(accelerator, "_DEVICE", tmp_path / "kvm")
    answer = accelerator.choose(toolbox, tmp_path / "cache.json")
    assert answer.reason
    assert accelerator.choose(toolbox, tmp_path / "cache.json") == answer


def test_answer_is_remembered(toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(accelerator, "_DEVICE", tmp_path / "kvm")
    probes = []

    def probe(_: Toolbox) -> Accelerator:
        probes.append(1)
        return Accelerator(Acceleration.KVM, "it ran")

    monkeypatch.setattr(accelerator, "probe", probe)
    cache = tmp_path / "cache.json"
    for _ in range(3):
        assert accelerator.choose(toolbox, cache).kind is Acceleration.KVM
    assert len(probes) == 1
    # Another boot of the host is another key.
    cache.write_text(json.dumps({**json.loads(cache.read_text()), "key": "old"}))
    accelerator.choose(toolbox, cache)
    assert len(probes) == 2


def test_damaged_memory_is_probed_again(toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(accelerator, "_DEVICE", tmp_path / "kvm")
    monkeypatch.setattr(accelerator, "probe", lambda _: Accelerator(Acceleration.TCG, "no"))
    cache = tmp_path / "cache.json"
    cache.write_text("{cut")
    assert accelerator.choose(toolbox, cache).reason == "no"
