"""Programs that units and log rotations start and that are in no package."""

from __future__ import annotations

import pytest

from bedplate.packages.calls import StrayCall, is_calling, stray_calls

UNIT = "/usr/lib/systemd/system/web.service"
DROP_IN = "/usr/lib/systemd/system/web.service.d/50-stop.conf"
ROTATION = "/etc/logrotate.d/web"
THERE = frozenset({"/usr/sbin/web", "/usr/bin/sh", "/usr/bin/systemctl", "/usr/bin/kill"})


def unit(text: str, drop_in: str = "") -> list[str]:
    texts = {UNIT: ("web", f"[Service]\nExecStart=/sbin/web -D\n{text}\n"), DROP_IN: ("other", drop_in)}
    return [f"{call.package} {call.program}" for call in stray_calls(texts, THERE)]


@pytest.mark.parametrize(
    "line",
    [
        "ExecStop=-/sbin/start-stop-daemon --stop --retry QUIT/5",
        "ExecStop = +start-stop-daemon --stop",
        "ExecStop=/bin/sh -c 'kill $$PID && start-stop-daemon --stop'",
        "ExecStop=/usr/bin/sh -ec \\\n  'for x in 1 2; do start-stop-daemon --stop; done'",
        "ExecStop=/bin/sh -c 'echo $(start-stop-daemon --status)'",
    ],
)
def test_a_unit_that_starts_what_is_not_there_is_named(line: str) -> None:
    assert unit(line)[0].endswith("start-stop-daemon")


@pytest.mark.parametrize(
    "line",
    [
        "ExecReload=/bin/kill -HUP $MAINPID",
        "ExecStop=",
        "ExecStop=/bin/sh -c 'if [ -x /sbin/gone ]; then /sbin/gone; fi'",
        "ExecStop=/bin/sh -c 'command -v gone >/dev/null && gone'",
        "ExecStop=/bin/sh -c 'gone() { :; }; gone; exec kill 1'",
        "ExecStop=${HELPER} stop",
        "[Unit]\nConditionFileIsExecutable=/usr/sbin/gone\n[Service]\nExecStop=/sbin/gone",
        # Quotes that only systemd understands.
        "ExecStop=/bin/kill it's",
    ],
)
def test_what_is_there_or_asked_for_first_is_not(line: str) -> None:
    assert unit(line) == []


def test_a_drop_in_takes_a_call_away_and_brings_one() -> None:
    stop = "ExecStop=-/sbin/start-stop-daemon --stop"
    assert unit(stop) == ["web /sbin/start-stop-daemon"]
    assert unit(stop, drop_in="[Service]\nExecStop=\n") == []
    assert unit(stop, drop_in="[Service]\nExecStop=\nExecStop=/usr/bin/gone\n") == ["other /usr/bin/gone"]


def test_scripts_of_log_rotations_are_read_and_only_they() -> None:
    text = "/var/log/web/*.log {\n\tdaily\n\tpostrotate\n\t\tinvoke-rc.d web rotate >/dev/null 2>&1\n\tendscript\n}\n"
    assert stray_calls({ROTATION: ("web", text)}, THERE) == [StrayCall("web", ROTATION, "invoke-rc.d")]
    assert stray_calls({ROTATION: ("web", text.replace("invoke-rc.d web rotate", "systemctl reload web"))}, THERE) == []


def test_a_script_that_is_not_understood_is_named() -> None:
    (call,) = stray_calls({ROTATION: ("web", "x {\npostrotate\nif true; then\nendscript\n}\n")}, THERE)
    assert (call.path, call.program) == (ROTATION, "")
    assert "not understood" in call.cause


def test_which_files_are_read() -> None:
    assert all(is_calling(path) for path in (UNIT, DROP_IN, ROTATION, "/usr/lib/systemd/user/x@.socket"))
    assert not any(is_calling(path) for path in ("/etc/init.d/web", "/usr/lib/systemd/system/web.timer", "/etc/web"))
