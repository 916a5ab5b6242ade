"""The worker: claims experiments, has them trained, and records what comes of it."""

from service.worker.supervisor import Worker

__all__ = ["Worker"]
