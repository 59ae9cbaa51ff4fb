"""Opening an upstream: all its suites verified, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from bedplate.model.definition.distro import Suite, Upstream
from bedplate.upstream import debian, rpmmd
from bedplate.upstream.index import IndexContext, VerifiedIndex
from bedplate.upstream.transport import Transport

Opener = Callable[[Upstream, Suite, IndexContext, Transport], VerifiedIndex]

FORMATS: Mapping[str, Opener] = MappingProxyType({"deb": debian.open_suite, "rpm": rpmmd.open_suite})


def open_index(upstream: Upstream, context: IndexContext) -> tuple[VerifiedIndex, ...]:
    """The verified indexes of all suites of ``upstream``, in the order of its definition.

    Raises:
        TrustError: a suite's signature, digest, age or name does not hold on any of its mirrors.
        BedplateError: a mirror cannot be reached, or no space.
    """
    opener = FORMATS[upstream.format]
    shown = context.progress.task(f"indexes of {upstream.id}", len(upstream.suites), "suites")
    indexes = []
    with shown as task, Transport(context.limits) as transport:
        for suite in upstream.suites:
            indexes.append(opener(upstream, suite, context, transport))
            task.advance()
    return tuple(indexes)
