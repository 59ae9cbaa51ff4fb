"""Roll-out decisions: who is offered which release and when. Pure functions over values; no I/O, no clock."""
