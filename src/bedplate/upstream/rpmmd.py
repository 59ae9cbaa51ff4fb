"""placeholder"""

from bedplate.model.definition.distro import Suite, Upstream
from bedplate.upstream.index import IndexContext, VerifiedIndex
from bedplate.upstream.transport import Transport


def open_suite(upstream: Upstream, suite: Suite, context: IndexContext, transport: Transport) -> VerifiedIndex:
    raise NotImplementedError
