"""What the article measured that asked the question."""

from service.domain.experiment import Activation

__all__ = ["ARTICLE"]

ARTICLE: dict[tuple[Activation, int], tuple[float, float]] = {
    ("sigmoid", 1): (0.8976, 0.4908),
    ("sigmoid", 2): (0.8572, 0.7661),
    ("sigmoid", 3): (0.7539, 0.9398),
    ("relu", 1): (0.9282, 0.2474),
    ("relu", 2): (0.9356, 0.2232),
    ("relu", 3): (0.9383, 0.2145),
}
"""Test accuracy and loss in the article's table: one run each."""
