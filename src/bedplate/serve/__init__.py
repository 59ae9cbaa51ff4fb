"""The update service: answers polls, keeps the fleet's state, shows it to people. It can hold back, never make up."""
