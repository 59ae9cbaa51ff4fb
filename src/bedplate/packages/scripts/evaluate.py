"""Follow every path a script can take at a first installation, and judge each command on it.

An abstract run: conditions whose operands are known (``"$1"`` is ``configure``) choose a branch, all others are
followed both ways. What no path reaches is dead code; what a path reaches is judged by ``kinds``. Nothing is
executed. The result is per command, so that nothing hides behind ``;``, ``&&`` or inside ``$( … )``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from bedplate.packages.scripts import syntax
from bedplate.packages.scripts.claims import Claim, Judgement, Kind, Unknown
from bedplate.packages.scripts.conditions import Tri, both, either, matches_pattern, negate
from bedplate.packages.scripts.kinds import Call, Outcome, judge, judge_redirect, safe_assignment
from bedplate.packages.scripts.names import local_names, names_in
from bedplate.packages.scripts.shell import as_assignment
from bedplate.packages.scripts.state import Field, State, expand, expand_known_start, merge, text_of
from bedplate.packages.scripts.syntax import Literal, Sequence, Simple, Word

MAX_STEPS = 5_000  # commands followed in one run; a script that needs more is not understood
MAX_CALLS = 12
MAX_UNROLLED = 64

Leaf = Simple | syntax.Redirect | syntax.For | syntax.Case | syntax.Function
"""What judgements are kept for: a command, or a line of a compound command that expands words."""

_SHELL_NAMES = """
    . : [ alias bg break builtin cd command continue declare eval exec exit export false getopts hash let local read
    readonly return set shift source test times trap true type typeset umask unalias unset wait
"""
SHELL_NAMES = frozenset(_SHELL_NAMES.split())
"""Names that shells look up as built-ins before or after functions, as they please."""

DECLARE = ("export", "local", "readonly")


class TooLongError(Exception):
    """The script takes more steps than :data:`MAX_STEPS`."""


@dataclass(slots=True)
class Judgements:
    """Every leaf that was reached, with all judgements of it. Leaves are compared by identity."""

    by_leaf: dict[int, tuple[Leaf, list[Judgement]]] = field(default_factory=dict)

    def add(self, leaf: Leaf, judgement: Judgement) -> None:
        """Remember a judgement of ``leaf``; the same one is kept once."""
        _, judgements = self.by_leaf.setdefault(id(leaf), (leaf, []))
        if judgement not in judgements:
            judgements.append(judgement)


def follow(script: Sequence, positional: tuple[Field, ...] | None, judgements: Judgements) -> None:
    """Follow ``script`` started with ``positional`` parameters, adding to ``judgements``.

    Raises:
        TooLongError: it takes too many steps.
    """
    start = State({"DPKG_ROOT": ""}, positional)
    _Run(script, judgements).sequence(script, start)


@dataclass(slots=True)
class _Frame:
    """A function call under way: the states it returned with."""

    returned: State | None = None
    depth: int = 0


class _Run:
    def __init__(self, script: Sequence, judgements: Judgements) -> None:
        self._script = script
        self._judgements = judgements
        self._frames: list[_Frame] = [_Frame()]
        self._steps = 0
        self._function_names: frozenset[str] | None = None

    # -- lists -----------------------------------------------------------------------------------------------------

    def sequence(self, sequence: Sequence, state: State | None) -> tuple[Tri, State | None]:
        status: Tri = None
        for item in sequence.items:
            if state is None:
                return None, None
            if item.background:
                self._and_or(item, state)
                status = True
            else:
                status, state = self._and_or(item, state)
        return status, state

    def _and_or(self, item: syntax.AndOr, state: State) -> tuple[Tri, State | None]:
        status, after = self._pipeline(item.first, state)
        for operator, pipeline in item.rest:
            if after is None:
                # An exit ends the script in the middle of a list: the rest is reached only by other paths.
                return None, None
            runs = status if operator == "&&" else negate(status)
            if runs is False:
                continue
            new_status, new_after = self._pipeline(pipeline, after)
            status = both(status, new_status) if operator == "&&" else either(status, new_status)
            after = new_after if runs else merge(after, new_after)
        return status, after

    def _pipeline(self, pipeline: syntax.Pipeline, state: State) -> tuple[Tri, State | None]:
        if len(pipeline.commands) == 1:
            status, after = self._command(pipeline.commands[0], state)
        else:
            # Every command of a longer pipeline runs in a shell of its own; shells that keep the last one in the
            # script's own shell exist, so what it assigns is forgotten.
            status, after = None, state
            for command in pipeline.commands:
                self._command(command, state)
            after = state.forget(self._assigned(pipeline.commands))
        return (negate(status) if pipeline.negated else status), after

    # -- commands --------------------------------------------------------------------------------------------------

    def _command(self, command: syntax.Command, state: State) -> tuple[Tri, State | None]:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise TooLongError
        match command:
            case syntax.Simple():
                return self._simple(command, state)
            case syntax.Group():
                return self.sequence(command.body, state)
            case syntax.Subshell():
                self.sequence(command.body, state)
                return None, state
            case syntax.If():
                return self._if(command, state)
            case syntax.While():
                return self._while(command, state)
            case syntax.For():
                return self._for(command, state)
            case syntax.Case():
                return self._case(command, state)
            case syntax.Function():
                if command.name in SHELL_NAMES:
                    self._judgements.add(command, Unknown(f"a function called {command.name}, as the shell's own"))
                self._judgements.add(command, Claim(Kind.STRUCTURE))
                return True, replace(state, functions={**state.functions, command.name: (command,)})
            case syntax.Redirected():
                for redirect in command.redirects:
                    state = self._redirect(redirect, state)
                return self._perhaps_behind(command, self._command(command.command, state), state)

    def _if(self, command: syntax.If, state: State) -> tuple[Tri, State | None]:
        result: State | None = None
        before: State | None = state
        for condition, body in command.branches:
            if before is None:
                return None, result
            status, before = self.sequence(condition, before)
            if before is None:
                return None, result
            if status is not False:
                result = merge(result, self.sequence(body, before)[1])
            if status is True:
                return None, result
        if command.otherwise is not None:
            return None, merge(result, self.sequence(command.otherwise, before)[1])
        return None, merge(result, before)

    def _while(self, command: syntax.While, state: State) -> tuple[Tri, State | None]:
        assigned = self._assigned((command,))
        while True:
            # Until nothing new is learnt: a later turn may call functions that an earlier one defined.
            state = state.forget(assigned)
            status, inside = self.sequence(command.condition, state)
            enters = negate(status) if command.until else status
            if enters is not False and inside is not None:
                inside = merge(inside, self.sequence(command.body, inside)[1])
            after = merge(state, inside)
            if after is None or after.forget(assigned) == state:
                return None, after
            state = after

    def _for(self, command: syntax.For, state: State) -> tuple[Tri, State | None]:
        words = command.words
        if words is None:
            fields, exact = (state.positional or (), state.positional is not None)
        else:
            state = self._expansions(words, state)
            fields, exact = expand_known_start(words, state)
        self._judgements.add(command, safe_assignment(command.name))
        self._judgements.add(command, Claim(Kind.STRUCTURE))
        assigned = self._assigned((command.body, command))
        if not exact or len(fields) > MAX_UNROLLED:
            fields = (None,)
        state = state.forget(assigned)
        while True:
            before = state
            for value in fields:
                # A turn starts with what is sure whatever turns came before and wherever "continue" left them.
                after = self.sequence(command.body, state.assign(command.name, value))[1]
                state = (merge(state, after) or state).forget(assigned)
            if state == before:
                return None, state

    def _case(self, command: syntax.Case, state: State) -> tuple[Tri, State | None]:
        self._judgements.add(command, Claim(Kind.STRUCTURE))
        state = self._expansions(
            (command.subject, *(word for patterns, _ in command.items for word in patterns)), state
        )
        subject = text_of(command.subject, state)
        result: State | None = None
        for patterns, body in command.items:
            matched: Tri = False
            for pattern in patterns:
                matched = either(matched, _matches(subject, pattern, state))
            if matched is not False:
                result = merge(result, self.sequence(body, state)[1])
            if matched is True:
                return None, result
        return None, merge(result, state)

    # -- simple commands -------------------------------------------------------------------------------------------

    def _simple(self, command: Simple, state: State) -> tuple[Tri, State | None]:
        state = self._expansions((*(a.value for a in command.assignments), *command.words), state)
        for redirect in command.redirects:
            state = self._redirect(redirect, state)
        if not command.words:
            return self._assignments(command, state)
        for assignment in command.assignments:
            # Before a special built-in or a function it stays set, before a program it does not.
            for_read = assignment.name == "IFS" and command.words[0].literal() == "read"
            self._judgements.add(command, Claim(Kind.SHELL) if for_read else safe_assignment(assignment.name))
            state = state.assign(assignment.name, None)
        if command.words[0].literal() in DECLARE and command.words[0].literal() not in state.functions:
            return self._declare(command, state)
        fields, exact = expand_known_start(command.words, state)
        if exact and not fields:
            self._judgements.add(command, Unknown("a command that is empty here"))
            return None, state
        return self._perhaps_behind(command, self._call(command, Call(fields, exact, state), state), state)

    def _perhaps_behind(
        self, command: Simple | syntax.Redirected, result: tuple[Tri, State | None], state: State
    ) -> tuple[Tri, State | None]:
        """``result``, or, where ``&>`` puts the command into the background, also the state without it."""
        if any(redirect.op == "&>" for redirect in command.redirects):
            return None, merge(result[1], state)
        return result

    def _assignments(self, command: Simple, state: State) -> tuple[Tri, State | None]:
        for assignment in command.assignments:
            self._judgements.add(command, safe_assignment(assignment.name))
            if assignment.name == "IFS":
                state = state.forget(None)
            state = state.assign(assignment.name, text_of(assignment.value, state))
        if not command.assignments:
            self._judgements.add(command, Claim(Kind.SHELL))
        substitutes = any(True for a in command.assignments for _ in syntax.substitutions(a.value.parts))
        return (None if substitutes or command.redirects else True), state

    def _declare(self, command: Simple, state: State) -> tuple[Tri, State | None]:
        """``export``, ``local`` and ``readonly`` with names and assignments; options are of no known kind."""
        local = command.words[0].literal() == "local"
        for word in command.words[1:]:
            assignment = as_assignment(word)
            name = assignment.name if assignment else word.literal()
            # An unquoted value that is not known may split into further assignments.
            if name is None or not name.isidentifier() or (assignment and expand([assignment.value], state) is None):
                self._judgements.add(command, Unknown(f"{command.words[0].literal()} of what is not known"))
                return None, state.forget(None)
            self._judgements.add(command, safe_assignment(name))
            if assignment or local:
                state = state.assign(name, text_of(assignment.value, state) if assignment else None)
        self._judgements.add(command, Claim(Kind.SHELL))
        return None, state

    def _call(self, command: Simple, call: Call, state: State) -> tuple[Tri, State | None]:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise TooLongError
        name = call.fields[0] if call.fields else None
        candidates = state.functions.get(name, ()) if name is not None and not call.no_functions else ()
        result: State | None = None
        status: Tri = None
        for function in candidates:
            if function is not None:
                result = merge(result, self._function(command, function, call, state))
        if candidates and None not in candidates:
            return None, result
        outcome = judge(call)
        if outcome.later is not None:
            # It runs at some later point, whatever the variables are by then.
            self._call(command, replace(outcome.later, state=state.forget(None)), state.forget(None))
        if outcome.inner is not None:
            return self._call(command, outcome.inner, state)
        self._judgements.add(command, outcome.judgement)
        status, after = self._apply(outcome, state)
        return (None, merge(result, after)) if candidates else (status, after)

    def _function(self, command: Simple, function: syntax.Function, call: Call, state: State) -> State | None:
        frame = _Frame(depth=self._frames[-1].depth + 1)
        if frame.depth > MAX_CALLS:
            self._judgements.add(command, Unknown("functions that call themselves"))
            return state.forget(None)
        self._judgements.add(command, Claim(Kind.STRUCTURE))
        self._frames.append(frame)
        positional = call.fields[1:] if call.exact else None
        _, ended = self._command(function.body, replace(state, positional=positional))
        self._frames.pop()
        after = merge(ended, frame.returned)
        if after is None:
            return None
        return replace(after.forget(local_names(function)), positional=state.positional)

    def _apply(self, outcome: Outcome, state: State) -> tuple[Tri, State | None]:
        """The state behind a built-in or program."""
        if outcome.ends == "return":
            frame = self._frames[-1]
            frame.returned = merge(frame.returned, state)
            return None, None
        if outcome.ends == "script":
            return None, None
        if outcome.forgets_all:
            return None, replace(state.forget(None), functions=self._perhaps(state))
        for name, value in outcome.assigns:
            state = state.assign(name, value)
        if outcome.positional is not None:
            state = replace(state, positional=outcome.positional[0])
        if outcome.loads_debconf:
            state = replace(state, debconf=True)
        return outcome.status, state

    def _perhaps(self, state: State) -> dict[str, tuple[syntax.Function | None, ...]]:
        return {name: tuple(dict.fromkeys((*found, None))) for name, found in state.functions.items()}

    # -- words and redirections ------------------------------------------------------------------------------------

    def _redirect(self, redirect: syntax.Redirect, state: State) -> State:
        state = self._expansions((redirect.target,), state)
        if redirect.op == "<<":
            self._judgements.add(redirect, Claim(Kind.SHELL))
        else:
            self._judgements.add(redirect, judge_redirect(redirect.op, text_of(redirect.target, state)))
        return state

    def _expansions(self, words: Iterable[Word], state: State) -> State:
        """Follow the substitutions in ``words``; the state without what expanding them may change."""
        words = tuple(words)
        for word in words:
            for body in syntax.substitutions(word.parts):
                self.sequence(body, state)
        for word in words:
            changed = syntax.expansion_assigns(word.parts)
            state = state.forget(None if "" in changed else changed)
        return state

    def _assigned(self, nodes: Iterable[syntax.Command | Sequence]) -> frozenset[str] | None:
        """Names that ``nodes`` may assign, with those any function of the script may assign; None for "any"."""
        names: set[str] = set()
        if self._function_names is None:
            self._function_names = names_in(
                command for command in syntax.commands(self._script) if isinstance(command, syntax.Function)
            )
        names |= self._function_names
        names |= names_in(nodes)
        return None if "" in names else frozenset(names)


def _matches(subject: Field, pattern: Word, state: State) -> Tri:
    if subject is None:
        # "*" matches whatever it is.
        return True if pattern.literal() == "*" else None
    literal = pattern.literal()
    if literal is not None:
        return matches_pattern(subject, literal)
    if all(isinstance(part, Literal) and part.quoted for part in pattern.parts):
        return subject == text_of(pattern, state)
    known = text_of(pattern, state)
    plain = all(
        not isinstance(part, Literal) or part.quoted or not set(part.text) & set("*?[\\") for part in pattern.parts
    )
    if known is None or not plain or set(known) & set("*?[\\"):
        return None
    return subject == known
