"""Runs the stages over a plan, taking from the cache what has not changed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bedplate.compose.groups import GroupSource
from bedplate.compose.plan import StageOutput, TreePlan
from bedplate.compose.stages.base import Stage, Staged, populate, select_inputs, stage_key
from bedplate.compose.stages.cache import StageCache
from bedplate.toolchain.run import Toolbox


def run_stages(
    stages: Sequence[Stage],
    plan: TreePlan,
    source: GroupSource,
    toolbox: Toolbox,
    tools: str,
    cache: StageCache,
    scratch: Path,
    jobs: int = 1,
) -> list[StageOutput]:
    """The results of ``stages`` on ``plan``, in order; no stage sees another's result, so ``jobs`` of them run at once.

    Args:
        tools: Identity of the tools tree, part of every cache key.
        scratch: A directory for temporary files.
    """
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        return list(pool.map(lambda stage: _result(stage, plan, source, toolbox, tools, cache, scratch), stages))


def _result(
    stage: Stage, plan: TreePlan, source: GroupSource, toolbox: Toolbox, tools: str, cache: StageCache, scratch: Path
) -> StageOutput:
    inputs = select_inputs(plan, stage.inputs)
    key = stage_key(stage, inputs, tools)
    kept = cache.get(key)
    if kept is not None:
        return kept
    scratch.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix=f"stage-{stage.name}-", dir=scratch))
    try:
        populate(root, plan, inputs, source)
        made = stage.run(Staged(root, toolbox))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    cache.put(key, made)
    return made
