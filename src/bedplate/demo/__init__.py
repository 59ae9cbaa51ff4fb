"""A small fleet before your eyes: real images, emulated nodes, the update service, a good and a bad release."""
