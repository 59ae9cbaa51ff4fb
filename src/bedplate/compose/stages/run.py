"""Runs the stages over a plan, taking from the cache what has not changed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bedplate.compose.groups import GroupSource
from bedplate.compose.plan import StageOutput, TreePlan
from bedplate.compose.stages.base import Stage, Staged, populate, select_inputs, stage_key
from bedplate.compose.stages.cache import StageCache
from bedplate.compose.stages.scratch import scratch
from bedplate.toolchain.run import Toolbox


def run_stages(
    stages: Sequence[Stage],
    plan: TreePlan,
    source: GroupSource,
    toolbox: Toolbox,
    tools: str,
    cache: StageCache,
    disk: Path,
    jobs: int = 1,
) -> list[StageOutput]:
    """The results of ``stages`` on ``plan``, in order; no stage sees another's result, so ``jobs`` of them run at once.

    Args:
        tools: Identity of the tools tree, part of every cache key.
        disk: A directory for temporary files, where memory does not hold them.
    """
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        return list(pool.map(lambda stage: _result(stage, plan, source, toolbox, tools, cache, disk), stages))


def _result(
    stage: Stage, plan: TreePlan, source: GroupSource, toolbox: Toolbox, tools: str, cache: StageCache, disk: Path
) -> StageOutput:
    inputs = select_inputs(plan, stage.inputs)
    key = stage_key(stage, inputs, tools)
    kept = cache.get(key)
    if kept is not None:
        return kept
    with scratch(stage.name, disk) as root:
        populate(root, plan, inputs, source)
        made = stage.run(Staged(root, toolbox))
    cache.put(key, made)
    return made
