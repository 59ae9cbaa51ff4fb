"""What is read of the audit log: each line once, over rotations, and never fewer in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.audit_log import AuditLog, denials

DENIED = (
    'type=AVC msg=audit(1.0:{0}): avc:  denied  {{ read }} for  pid={0} comm="a" '
    "scontext=a tcontext=b tclass=file permissive=0\n"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "audit.log"
    path.write_text("before\n")
    return path


def add(path: Path, text: str) -> None:
    with path.open("a") as log:
        log.write(text)


def rotate(path: Path, keep: int = 3) -> None:
    """As auditd does it (auditd.conf(5), max_log_file_action = rotate)."""
    for number in range(keep - 2, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    path.replace(path.with_name(f"{path.name}.1"))
    path.touch()


def test_only_what_was_added_is_read_and_once(path: Path) -> None:
    log = AuditLog(path)
    add(path, "one\n")
    assert log.new() == (["one"], False)
    assert log.new() == ([], False)


def test_half_a_line_is_read_when_it_is_whole(path: Path) -> None:
    log = AuditLog(path)
    add(path, "one\ntw")
    assert log.new() == (["one"], False)
    add(path, "o\n")
    assert log.new() == (["two"], False)


def test_lines_before_and_after_rotations_are_read(path: Path) -> None:
    log = AuditLog(path)
    add(path, "one\n")
    rotate(path)
    add(path, "two\n")
    rotate(path)
    add(path, "three\n")
    assert log.new() == (["one", "two", "three"], False)
    add(path, "four\n")
    assert log.new() == (["four"], False)


def test_what_was_rotated_away_is_said_to_be_missing(path: Path) -> None:
    log = AuditLog(path)
    for name in ("one", "two", "three", "four"):
        add(path, f"{name}\n")
        rotate(path)
    lines, missed = log.new()
    assert missed
    assert lines == ["one", "three", "four"]
    assert log.new() == ([], False)


def test_denials_and_contexts_that_could_not_be_worked_out_count_each_once() -> None:
    lines = [
        DENIED.format(7).strip(),
        DENIED.format(7).strip(),
        "type=USER_AVC msg=audit(1.0:8): pid=1 msg='avc:  denied  { start } for auid=0'",
        "type=SELINUX_ERR msg=audit(1.0:9): op=security_compute_sid invalid_context=x:y:z",
        "type=USER_AVC msg=audit(1.0:8): pid=1 msg='avc:  op=load_policy lsm=selinux res=1'",
    ]
    assert [text.split()[0] for text in denials(lines)] == ["denied", "denied", "op=security_compute_sid"]
