"""The packages made from the definition alone, for the solver and as RPMs."""

from __future__ import annotations

from collections.abc import Iterable

from bedplate.flows.cache import part
from bedplate.flows.keys import key_store
from bedplate.flows.workspace import Workspace
from bedplate.model.definition.facts import accounts_of
from bedplate.model.definition.load import DefinitionSet
from bedplate.model.lock import Lock
from bedplate.model.package import Candidate
from bedplate.packages.own import BuiltPackage, OwnContext, build, candidate
from bedplate.trust.roles import ROLES, Form


def own_candidates(definition: DefinitionSet) -> list[Candidate]:
    """What the solver may choose beside the upstreams' packages."""
    return [candidate(package, definition.distro) for package in definition.own.values()]


def build_own(workspace: Workspace, definition: DefinitionSet, lock: Lock) -> list[BuiltPackage]:
    """The own packages of a lock as RPMs; they hold the public keys in use."""
    names = [locked.nevra.name for locked in lock.packages if locked.location is None]
    return build_own_packages(workspace, definition, names)


def build_own_packages(workspace: Workspace, definition: DefinitionSet, names: Iterable[str]) -> list[BuiltPackage]:
    """Own packages by name as RPMs."""
    keys = key_store(workspace, definition)
    public = {role.id: keys.signer(role.id).public for role in ROLES}
    # The accounts every system has; a package that brings one of its own carries its line itself.
    everywhere = accounts_of(definition.ids, definition.facts, ())
    offered = [one for _, fact in sorted(definition.facts.items()) for one in fact.alternatives]
    rings = {role.id: keys.keyring(role.id) for role in ROLES if role.form is Form.OPENPGP}
    context = OwnContext(definition.distro, everywhere, public, offered, rings)
    return [build(definition.own[name], context, part(workspace, "rpms") / "own") for name in names]
