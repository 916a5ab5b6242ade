"""Which specs may be trained as one."""

import pytest

from service.domain.experiment import Spec

RELU = Spec(activation="relu", depth=1)


@pytest.mark.parametrize("other", [{"seed": 5}, {"name": "x"}, {"tags": ("a",)}, {"priority": 3}])
def test_specs_that_train_alike_but_for_the_seed_have_one_key(other: dict[str, object]) -> None:
    assert RELU.model_copy(update=other).stack_key == RELU.stack_key is not None


@pytest.mark.parametrize(
    "other", [{"shuffle_seed": 1}, {"units": 17}, {"epochs": 9}, {"learning_rate": 0.002}, {"dataset": "fashion_mnist"}]
)
def test_specs_that_differ_by_more_have_another(other: dict[str, object]) -> None:
    assert RELU.model_copy(update=other).stack_key not in {None, RELU.stack_key}


@pytest.mark.parametrize("other", [{"activation": "softmax"}, {"activation": "sparsemax"}, {"optimizer": "rmsprop"}])
def test_what_has_other_bits_among_others_has_none(other: dict[str, object]) -> None:
    assert RELU.model_copy(update=other).stack_key is None
