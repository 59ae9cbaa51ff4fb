"""Prometheus metrics. Labels are tracks, rings, stages and channels of the policy and store, never what nodes say, so
their number is bounded by what operators define."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from bedplate.fleet.throttle import share
from bedplate.fleet.values import RolloutStatus
from bedplate.serve.service import Service

_STAGES = ("offered", "downloading", "rebooting", "healthy", "fell_back", "timed_out")


class ServiceCollector(Collector):
    """Reads the service's own state when it is asked, so a poll pays for two additions at most."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._started = time.time()

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        service, view = self._service, self._service.view
        polls = CounterMetricFamily("bedplate_polls", "Requests of nodes by what became of them", labels=["result"])
        for result, count in service.desk.counters.items():
            polls.add_metric([result], count)
        yield polls
        for name, count in service.counters.items():
            yield CounterMetricFamily(f"bedplate_{name}", f"{name.replace('_', ' ')} since the start", value=count)
        yield GaugeMetricFamily("bedplate_queue_nodes", "Nodes whose news waits to be written", len(view.dirty))
        yield GaugeMetricFamily(
            "bedplate_in_doubt", "1 while nothing new is offered for doubt", int(bool(view.in_doubt))
        )
        yield GaugeMetricFamily("bedplate_leader", "1 while this instance moves roll-outs on", int(service.leading))
        yield GaugeMetricFamily("bedplate_releases", "Releases in the store", len(view.shelf.releases))
        yield from self._rollouts()

    def _rollouts(self) -> Iterator[Metric]:
        service, view = self._service, self._service.view
        now = service.clock()
        labels = ["channel", "track", "ring"]
        members = GaugeMetricFamily("bedplate_ring_nodes", "Nodes of a ring", labels=labels)
        stages = GaugeMetricFamily(
            "bedplate_rollout_nodes", "Nodes by where they stand with the roll-out", labels=[*labels, "stage"]
        )
        shares = GaugeMetricFamily("bedplate_rollout_share", "Share of a ring that may see the release", labels=labels)
        states = GaugeMetricFamily(
            "bedplate_rollout_state", "1 for the state a roll-out is in", labels=["channel", "track", "state"]
        )
        for (channel, track), rollout in view.rollouts.items():
            fleet = view.fleet(track, rollout.release.version)
            for state in RolloutStatus:
                states.add_metric([channel, track, state.value], int(rollout.status is state))
            for ring in view.policy.rings_of(channel):
                key = [channel, track, ring.name]
                counts = fleet.ring_counts(ring.name)
                members.add_metric(key, counts.nodes)
                shares.add_metric(key, share(rollout, view.policy, ring, now))
                for stage in _STAGES:
                    stages.add_metric([*key, stage], getattr(counts, stage))
        yield from (members, stages, shares, states)


def registry(service: Service) -> CollectorRegistry:
    """The service's metrics and its process's."""
    found = CollectorRegistry()
    found.register(ServiceCollector(service))
    ProcessCollector(registry=found)
    return found
