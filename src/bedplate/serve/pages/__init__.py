"""The pages: what people see of the fleet, rendered here and live. No build step, nothing of another origin."""
