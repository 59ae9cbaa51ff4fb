"""Links that update-alternatives would have made, from the facts of the packages in the image. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from bedplate.compose.plan import StageOutput
from bedplate.compose.stages.base import output
from bedplate.model.definition.facts import PackageFacts
from bedplate.model.errors import BadInput

NAME = "alternatives"


def links(facts: Iterable[PackageFacts], paths: Collection[str]) -> StageOutput:
    """The links whose targets are in the image.

    Args:
        facts: Of the packages in the image, in order.
        paths: Every path of the image so far.

    Raises:
        BadInput: two packages want one link to point to different targets.
    """
    made: dict[str, tuple[str, str]] = {}
    for package in facts:
        for alternative in package.alternatives:
            if alternative.target not in paths:
                continue
            link = _canonical(alternative.link)
            known = made.setdefault(link, (alternative.target, package.name))
            if known[0] != alternative.target:
                raise BadInput(
                    f"{link} is to point to {known[0]} ({known[1]}) and to {alternative.target} ({package.name})",
                    where="distro/packages",
                    remedy="keep one of the two alternatives",
                )
    return output(NAME, links={link: target for link, (target, _) in sorted(made.items()) if link not in paths})


def _canonical(path: str) -> str:
    for alias in ("/bin/", "/sbin/", "/lib/", "/lib64/"):
        if path.startswith(alias):
            return "/usr" + path
    return path
