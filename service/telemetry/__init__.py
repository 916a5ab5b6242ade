"""What the service tells of itself while it runs: logs, metrics and traces. It knows nothing of what they are about."""
