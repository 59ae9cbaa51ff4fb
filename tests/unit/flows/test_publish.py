"""Publishing: the revision grows with every change of the repository and never without one."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from bedplate.flows.definition import read_definition
from bedplate.flows.repository import own_finished, publish, restore, state_store
from bedplate.flows.workspace import Workspace
from bedplate.model.advisory import AdvisedPackage, Advisory
from bedplate.model.evr import Evr
from bedplate.model.package import Nevra, SourceRef
from bedplate.packages.updateinfo import read_updateinfo

DISTRO = Path(__file__).resolve().parents[3] / "distro"


def revision(served: Path) -> int:
    return int(re.findall(r"<revision>(\d+)<", (served / "repodata/repomd.xml").read_text())[0])


def test_the_revision_grows_with_every_change_also_when_an_older_state_comes_back(tmp_path: Path) -> None:
    workspace = Workspace(distro=DISTRO, output=tmp_path / "out", cache=tmp_path / "cache", keys=tmp_path / "keys")
    definition = read_definition(workspace)
    served = state_store(workspace, definition).served
    evr = Evr.parse("1-1")
    fixed = AdvisedPackage(Nevra("filesystem", evr, "noarch"), SourceRef("filesystem", evr))
    told = Advisory("B-2026:filesystem-1-1", "filesystem 1-1", 1_790_000_000, (fixed,))

    first = publish(workspace, definition, own_finished(workspace, definition, ["filesystem"]), comment="first").state
    assert revision(served) == first.created
    again = publish(workspace, definition, own_finished(workspace, definition, ["filesystem"]), comment="again").state
    assert again == first

    more = own_finished(workspace, definition, ["bedplate-triggers"])
    second = publish(workspace, definition, more, comment="second", advisories=[told]).state
    assert len(second.packages) == 2
    assert second.created == revision(served) > first.created

    back = restore(workspace, first.id)
    assert back.packages == first.packages
    assert back.created == revision(served) > second.created
    assert not list(served.glob("repodata/*-updateinfo.xml.gz"))

    # What was said is still said when other packages come.
    publish(workspace, definition, more, comment="third", advisories=[told])
    publish(workspace, definition, own_finished(workspace, definition, ["bedplate-repos"]), comment="fourth")
    (path,) = served.glob("repodata/*-updateinfo.xml.gz")
    assert [one.id for one in read_updateinfo(gzip.decompress(path.read_bytes()))] == [told.id]
