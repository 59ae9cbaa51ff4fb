"""Scripts that try to pass as harmless. Each file is named after its hazard; what it does names ``/etc/attacked``."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.model.definition.facts import Ids, PackageFacts, User, Verdict
from bedplate.model.errors import BadInput, Level
from bedplate.model.package import Script
from bedplate.packages.deb.control import parse_script
from bedplate.packages.scripts.classify import script_digest
from bedplate.packages.scripts.ledger import Ledger, PackageScripts, Status, account

SCRIPTS = sorted((Path(__file__).parent / "maintainer").glob("*.postinst"))
IDS = Ids(users={"root": User(uid=0)}, groups={"adm": 4})


def ledger(script: Script, *verdicts: Verdict) -> Ledger:
    facts = {"demo": PackageFacts(name="demo", scripts=list(verdicts))}
    return account([PackageScripts("demo", (script,))], facts, IDS)


def test_there_are_hazards() -> None:
    assert len(SCRIPTS) > 60


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_the_line_that_does_it_is_shown_and_stops_the_build(path: Path) -> None:
    script = parse_script("postinst", path.read_bytes())
    result = ledger(script)
    (found,) = result.accounts
    assert found.status is Status.UNACCOUNTED
    lines = script.text.split("\n")
    uncovered = {number for gap in found.uncovered for number in range(gap.first, gap.last + 1)}
    acting = {number for number, line in enumerate(lines, 1) if "/etc/attacked" in line}
    assert acting
    assert acting <= uncovered
    with pytest.raises(BadInput) as error:
        result.require()
    assert "/etc/attacked" in str(error.value)
    assert found.sha256 in error.value.remedy


def test_compiled_script_is_never_covered() -> None:
    script = parse_script("preinst", b"\x7fELF\x02\x01\x01" + bytes(64))
    assert ledger(script).accounts[0].status is Status.UNACCOUNTED


def test_script_changed_after_review_asks_for_a_new_look() -> None:
    reviewed = Script("postinst", "/bin/sh", "#!/bin/sh\ncp /etc/a /etc/b\n")
    verdict = Verdict(
        script="postinst", sha256=script_digest(reviewed), verdict="not-needed", reason="read by a person, harmless"
    )
    assert ledger(reviewed, verdict).accounts[0].status is Status.VERDICT

    changed = Script("postinst", "/bin/sh", "#!/bin/sh\ncp /etc/a /etc/b\ncp /bin/sh /etc/attacked\n")
    result = ledger(changed, verdict)
    assert result.accounts[0].status is Status.CHANGED
    (finding,) = [finding for finding in result.findings if finding.level is Level.ERROR]
    assert finding.id == "script.changed"
    assert "cp /bin/sh /etc/attacked" in finding.cause


def test_verdict_does_not_hold_for_another_script_of_the_package() -> None:
    text = "#!/bin/sh\ncp /etc/a /etc/b\n"
    verdict = Verdict(
        script="preinst",
        sha256=script_digest(Script("preinst", "/bin/sh", text)),
        verdict="not-needed",
        reason="read by a person, harmless",
    )
    assert ledger(Script("postinst", "/bin/sh", text), verdict).accounts[0].status is Status.UNACCOUNTED


def test_same_text_under_another_interpreter_is_another_script() -> None:
    digests = {script_digest(Script("%post", interpreter, "ldconfig\n")) for interpreter in ("/bin/sh", "<lua>")}
    assert len(digests) == 2


def test_same_trigger_for_other_packages_is_another_script() -> None:
    digests = {script_digest(Script("%triggerin", "/bin/sh", "ldconfig\n", condition)) for condition in ("a", "a, b")}
    assert len(digests) == 2


def test_script_of_an_unknown_kind_is_not_covered() -> None:
    assert ledger(Script("postmortem", "/bin/sh", "#!/bin/sh\ntrue\n")).accounts[0].status is Status.UNACCOUNTED


def test_trigger_file_with_an_unknown_directive_is_not_covered() -> None:
    assert ledger(Script("triggers", "", "run /etc/attacked\n")).accounts[0].status is Status.UNACCOUNTED


def test_branch_for_triggers_is_read_when_the_package_is_interested() -> None:
    text = '#!/bin/sh\nif [ "$1" = triggered ]; then\n\tcp /bin/sh /etc/attacked\nfi\n'
    scripts = (Script("postinst", "/bin/sh", text), Script("triggers", "", "interest-noawait /usr/lib/evil.d\n"))
    result = account([PackageScripts("demo", scripts)], {}, IDS)
    assert [entry.script for entry in result.unaccounted] == ["postinst"]
