import keras
import numpy as np
import pytest

from ehr_bert.errors import UserError
from ehr_bert.training.optimizer import WarmupThenDecay, build_optimizer
from ehr_bert.training.recipe import Recipe


def test_the_learning_rate_rises_linearly_then_falls_to_nothing():
    schedule = WarmupThenDecay(peak=2.0, warmup_steps=4, steps=10)
    found = [float(schedule(step)) for step in range(12)]
    np.testing.assert_allclose(found, [0, 0.5, 1, 1.5, 1.2, 1, 0.8, 0.6, 0.4, 0.2, 0, 0], atol=1e-6)


def test_without_warm_up_the_first_update_has_the_peak():
    assert float(WarmupThenDecay(peak=2.0, warmup_steps=0, steps=10)(0)) == 2.0


def test_twenty_updates_equal_those_of_torch_s_adamw():
    torch = pytest.importorskip("torch")
    recipe = Recipe(steps=1_000_000, warmup_steps=0, learning_rate=0.01, weight_decay=0.1)
    rng = np.random.default_rng(0)
    start = {"kernel": rng.normal(size=(3, 5)), "bias": rng.normal(size=5), "gamma": rng.normal(size=5)}
    ours = [keras.Variable(value.astype("float32"), name=name) for name, value in start.items()]
    theirs = [torch.nn.Parameter(torch.tensor(value, dtype=torch.float32)) for value in start.values()]
    optimizer = build_optimizer(recipe, ours)
    reference = torch.optim.AdamW(
        [{"params": theirs[:1], "weight_decay": 0.1}, {"params": theirs[1:], "weight_decay": 0.0}],
        lr=0.01,
        eps=1e-6,
    )
    for _ in range(20):
        gradients = [rng.normal(size=value.shape).astype("float32") for value in start.values()]
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], ours)
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        reference.step()
    for variable, parameter in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(variable.numpy(), parameter.detach().numpy(), atol=2e-5)


@pytest.mark.parametrize("values", [{"steps": 0}, {"batch_size": -1}, {"learning_rate": -1e-4}])
def test_a_recipe_out_of_range_is_refused(values):
    with pytest.raises(UserError, match="must be"):
        Recipe(**values)
