"""Roll-out decisions: who is offered which release and when. Pure functions over values; no I/O, no clock.

The values are in :mod:`~bedplate.fleet.values` and :mod:`~bedplate.fleet.policy`. A poll asks
:func:`~bedplate.fleet.decision.decide` and tells :mod:`~bedplate.fleet.observing` what it saw; at intervals
:func:`~bedplate.fleet.running.choose_first` and :func:`~bedplate.fleet.running.advance` move a roll-out on; people
command it with :mod:`~bedplate.fleet.commands`.
"""
