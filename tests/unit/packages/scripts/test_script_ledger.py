"""The ledger: what is accounted for, what stops a build, what is shown, and what is kept between runs."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest

from bedplate.model.definition.facts import FactsFile, PackageFacts, Verdict
from bedplate.model.errors import BadInput, Level
from bedplate.model.package import Script
from bedplate.packages.scripts.claims import REPLACED_BY, Kind
from bedplate.packages.scripts.classify import Classification, script_digest
from bedplate.packages.scripts.ledger import Ledger, PackageScripts, Status, account, from_deb
from bedplate.packages.scripts.store import ClassificationStore

HARMLESS = Script("postinst", "/bin/sh", '#!/bin/sh\nset -e\nif [ "$1" = configure ]; then\n\tldconfig\nfi\n')
WRITES = Script("postinst", "/bin/sh", "#!/bin/sh\nset -e\n\nfrobnicate /usr/share/a /etc/a\n")


def facts(*verdicts: Verdict) -> dict[str, PackageFacts]:
    return {"demo": PackageFacts(name="demo", scripts=list(verdicts))}


def verdict(of: Script, **changes: str) -> Verdict:
    known = {"script": of.kind, "sha256": script_digest(of), "verdict": "replaced"}
    return Verdict.model_validate({**known, "reason": "the file is the distribution's", **changes})


def ledger(*scripts: Script, known: dict[str, PackageFacts] | None = None) -> Ledger:
    return account([PackageScripts("demo", scripts)], known or {})


def test_every_kind_says_what_replaces_it() -> None:
    assert set(REPLACED_BY) == set(Kind)


def test_covered_script_needs_no_verdict() -> None:
    result = ledger(HARMLESS)
    result.require()
    assert result.accounts[0].status is Status.COVERED


def test_uncovered_script_stops_a_build_and_prints_the_lines_and_what_to_paste() -> None:
    result = ledger(WRITES)
    with pytest.raises(BadInput) as error:
        result.require()
    text = str(error.value)
    assert "demo postinst" in text
    assert "4 | frobnicate /usr/share/a /etc/a" in text
    assert "frobnicate is of no known kind" in text
    assert "set -e" not in text
    # What is printed to be pasted is a valid facts file once a reason is written.
    (finding,) = result.findings
    pasted = finding.remedy.replace('reason = ""', 'reason = "the file is the distribution\'s"')
    parsed = FactsFile.model_validate(tomllib.loads(pasted))
    ledger(WRITES, known={package.name: package for package in parsed.package}).require()


def test_verdict_for_this_very_text_lets_it_pass() -> None:
    result = ledger(WRITES, known=facts(verdict(WRITES)))
    result.require()
    assert result.rows()[0].reason == "the file is the distribution's"


def test_verdict_that_known_kinds_made_needless_is_mentioned() -> None:
    result = ledger(HARMLESS, known=facts(verdict(HARMLESS)))
    result.require()
    assert [finding.id for finding in result.findings] == ["script.verdict-unneeded"]


def test_verdict_for_a_script_that_is_gone_is_mentioned() -> None:
    result = ledger(HARMLESS, known=facts(verdict(WRITES, script="preinst")))
    assert [(finding.id, finding.level) for finding in result.findings] == [("script.verdict-unused", Level.WARNING)]


def test_rows_are_json() -> None:
    result = ledger(WRITES, Script("prerm", "/bin/sh", "#!/bin/sh\nx\n"))
    rows = json.loads(json.dumps([asdict(row) for row in result.rows()]))
    assert [(row["script"], row["status"]) for row in rows] == [("postinst", "unaccounted"), ("prerm", "covered")]
    assert rows[0]["uncovered"] == ["line 4: frobnicate is of no known kind"]


def test_triggers_of_a_deb_are_scripts_too() -> None:
    scripts = from_deb("demo", (HARMLESS,), {"control": b"", "triggers": b"# a comment\nactivate-noawait ldconfig\n"})
    result = account([scripts], {})
    result.require()
    assert [entry.script for entry in result.accounts] == ["postinst", "triggers"]
    assert Kind.LDCONFIG in {piece.kind for piece in result.accounts[1].pieces}


def test_very_long_uncovered_script_is_cut_in_the_message() -> None:
    result = ledger(Script("postinst", "/bin/sh", "#!/bin/sh\n" + "evil\n" * 500))
    assert len(result.findings[0].cause.split("\n")) < 100
    assert "and 460 more" in result.findings[0].cause


# -- what is kept between runs -------------------------------------------------------------------------------------


def test_store_gives_the_same_and_reads_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = [PackageScripts("demo", (HARMLESS, WRITES))]
    first = account(packages, facts(verdict(WRITES)), store=ClassificationStore(tmp_path))

    def not_again(script: Script, *, triggered: bool) -> Classification:
        raise AssertionError(script)

    monkeypatch.setattr("bedplate.packages.scripts.store.classify", not_again)
    assert account(packages, facts(verdict(WRITES)), store=ClassificationStore(tmp_path)) == first


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"x": 1}', "null"])
def test_damaged_store_is_made_anew(tmp_path: Path, damage: str) -> None:
    store = ClassificationStore(tmp_path)
    expected = store.classify(WRITES, triggered=False)
    store.save()
    (path,) = tmp_path.iterdir()
    key = next(iter(json.loads(path.read_text())))
    path.write_text(damage)
    assert ClassificationStore(tmp_path).classify(WRITES, triggered=False) == expected
    path.write_text(json.dumps({key: [[["no such kind", 1, 2, []]], []]}))
    assert ClassificationStore(tmp_path).classify(WRITES, triggered=False) == expected


def test_two_processes_on_one_store_lose_nothing(tmp_path: Path) -> None:
    one, two = ClassificationStore(tmp_path), ClassificationStore(tmp_path)
    one.classify(HARMLESS, triggered=False)
    two.classify(WRITES, triggered=False)
    one.save()
    two.save()
    (path,) = tmp_path.iterdir()
    assert len(json.loads(path.read_text())) == 2
