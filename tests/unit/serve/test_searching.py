"""Searching many nodes: the right ones in the right order, and everybody else gets a turn meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bedplate.serve.searching import PORTION, search
from bedplate.serve.view import FleetView, NodeState
from support.serving import bench


def fleet(count: int) -> FleetView:
    view = FleetView()
    for number in range(count):
        # In an order of their own, as nodes come.
        id = f"{number * 7919 % 1_000_003:032x}"
        node = NodeState(id, number.to_bytes(32, "big"), "container", ("early", "broad")[number % 2])
        view.add(node)
    return view


def test_polls_get_their_turn_after_each_portion() -> None:
    async def play() -> int:
        view = fleet(20 * PORTION)
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        found = await search(view, lambda node: (node.ring,))
        after_search = turns
        last = await found.part(20 * PORTION - 3, 20 * PORTION + 3)
        task.cancel()
        assert len(last) == 3
        # Deep pages are merged in portions too.
        assert turns - after_search >= 18
        return after_search

    assert asyncio.run(play()) >= 20


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=60), st.integers(0, 70), st.integers(0, 20))
def test_parts_are_those_of_the_sorted_whole(rows: list[tuple[int, bool]], start: int, length: int) -> None:
    async def play() -> None:
        view = fleet(len(rows))
        wanted = dict(zip(view.nodes, rows, strict=True))

        def key(node: NodeState) -> tuple[int] | None:
            rank, fits = wanted[node.id]
            return (rank,) if fits else None

        found = await search(view, key)
        whole = sorted((rank, id) for id, (rank, fits) in wanted.items() if fits)
        assert found.total == len(whole)
        assert found.count((3,)) == sum(rank == 3 for rank, _ in whole)
        part = await found.part(start, start + length)
        assert [node.id for node in part] == [id for _, id in whole[start : start + length]]

    asyncio.run(play())


def test_the_api_walks_through_all_nodes_in_pages(tmp_path: Path) -> None:
    async def play() -> None:
        async with bench(tmp_path) as b:
            for node in fleet(2 * PORTION + 77).nodes.values():
                b.service.view.add(node)
            seen: list[str] = []
            after = ""
            for _ in range(20):
                page = (await b.call("GET", f"/api/v1/nodes?ring=broad&limit=100&after={after}")).json()
                seen += [one["id"] for one in page["nodes"]]
                assert page["total"] == (2 * PORTION + 77) // 2
                after = page["next"]
                if not after:
                    break
            assert len(seen) == (2 * PORTION + 77) // 2
            assert seen == sorted(seen)

    asyncio.run(play())
