"""Links that update-alternatives would have made, from the facts of the packages in the image. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from bedplate.compose.plan import StageOutput
from bedplate.compose.stages.base import output
from bedplate.model.definition.facts import PackageFacts
from bedplate.model.errors import BadInput

NAME = "alternatives"


def links(facts: Iterable[PackageFacts], paths: Collection[str]) -> StageOutput:
    """The links whose targets are in the image; of several for one link that of the highest priority.

    Args:
        facts: Of the packages in the image, in order.
        paths: Every path of the image so far.

    Raises:
        BadInput: two packages want one link to point to different targets with the same priority.
    """
    made: dict[str, tuple[int, str, str]] = {}
    for package in facts:
        for alternative in package.alternatives:
            if alternative.target not in paths:
                continue
            link = _canonical(alternative.link)
            mine = (alternative.priority, alternative.target, package.name)
            known = made.setdefault(link, mine)
            if known[0] == mine[0] and known[1] != mine[1]:
                raise BadInput(
                    f"{link} is to point to {known[1]} ({known[2]}) and to {mine[1]} ({mine[2]})",
                    where="distro/packages",
                    remedy="keep one of the two alternatives, or give them different priorities",
                )
            if mine[0] > known[0]:
                made[link] = mine
    return output(NAME, links={link: target for link, (_, target, _) in sorted(made.items()) if link not in paths})


def _canonical(path: str) -> str:
    for alias in ("/bin/", "/sbin/", "/lib/", "/lib64/"):
        if path.startswith(alias):
            return "/usr" + path
    return path
