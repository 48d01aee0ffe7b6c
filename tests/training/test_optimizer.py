import keras
import numpy as np
import pytest

from ehr_bert.training.optimizer import build_optimizer, clear_moments
from ehr_bert.training.recipe import Optimizer, Phase, Recipe

RATE, DECAY = 0.01, 0.1
SHAPES = {"kernel": (3, 5), "bias": (5,), "gamma": (5,)}


def adamw(weight, mean, square, decays):
    """Algorithm 2 of Loshchilov and Hutter 2019, lines 9 to 12."""
    return RATE * (mean / (np.sqrt(square) + 1e-6) + (DECAY * weight if decays else 0))


def lamb(weight, mean, square, decays):
    """Algorithm 2 of You et al. 2020; their program leaves out the ratio where nothing decays."""
    update = mean / (np.sqrt(square) + 1e-6)
    if not decays:
        return RATE * update
    update = update + DECAY * weight
    ratio = np.linalg.norm(weight.ravel()) / np.linalg.norm(update.ravel())
    return RATE * update * ratio


@pytest.mark.parametrize(("name", "rule"), [("adamw", adamw), ("lamb", lamb)])
def test_twenty_updates_equal_those_of_the_paper_s_formulas(name, rule):
    rng = np.random.default_rng(0)
    weights = {key: rng.normal(size=shape) for key, shape in SHAPES.items()}
    variables = [keras.Variable(value.astype("float32"), name=key) for key, value in weights.items()]
    phase = Phase(steps=20, warmup_steps=0, learning_rate=RATE, decay="constant")
    recipe = Recipe(phases=(phase,), optimizer=Optimizer(name=name, weight_decay=DECAY, beta_2=0.99))
    optimizer = build_optimizer(recipe, [20], variables)
    means, squares = ({key: np.zeros(shape) for key, shape in SHAPES.items()} for _ in range(2))
    for done in range(1, 21):
        gradients = {key: rng.normal(size=shape) for key, shape in SHAPES.items()}
        optimizer.apply(
            [keras.ops.convert_to_tensor(g.astype("float32")) for g in gradients.values()], variables
        )
        for key, gradient in gradients.items():
            means[key] = 0.9 * means[key] + 0.1 * gradient
            squares[key] = 0.99 * squares[key] + 0.01 * gradient**2
            unbiased = means[key] / (1 - 0.9**done), squares[key] / (1 - 0.99**done)
            weights[key] = weights[key] - rule(weights[key], *unbiased, decays=key == "kernel")
    for variable, weight in zip(variables, weights.values(), strict=True):
        np.testing.assert_allclose(variable.numpy(), weight, atol=2e-5)


@pytest.mark.parametrize("name", ["adamw", "lamb"])
@pytest.mark.parametrize("carry_over", ["weights", "nothing"])
def test_moments_that_begin_anew_are_those_of_a_fresh_optimizer(name, carry_over):
    """Constant rates, so that a separate phase differs only in the moments."""
    rng = np.random.default_rng(1)
    gradients = [[rng.normal(size=shape).astype("float32") for shape in SHAPES.values()] for _ in range(7)]
    settings = Optimizer(name=name, weight_decay=DECAY)
    phase = {"warmup_steps": 0, "learning_rate": RATE, "decay": "constant"}
    phases = (Phase(steps=4, **phase), Phase(steps=3, **phase, carry_over=carry_over))

    def optimizer_of(phases, weights):
        variables = [keras.Variable(value, name=name) for name, value in zip(SHAPES, weights, strict=True)]
        steps = [stage.steps for stage in phases]
        return build_optimizer(Recipe(phases=phases, optimizer=settings), steps, variables), variables

    def apply(optimizer, variables, chosen):
        for update in chosen:
            optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in update], variables)
        return [variable.numpy() for variable in variables]

    optimizer, variables = optimizer_of(
        phases, [rng.normal(size=s).astype("float32") for s in SHAPES.values()]
    )
    between = apply(optimizer, variables, gradients[:4])
    clear_moments(optimizer)
    assert int(optimizer.iterations) == 4
    actual = apply(optimizer, variables, gradients[4:])
    fresh = apply(*optimizer_of((Phase(steps=3, **phase),), between), gradients[4:])
    for ours, theirs in zip(actual, fresh, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_lamb_moves_weights_of_zero_and_leaves_still_ones_alone():
    variables = [keras.Variable(np.zeros((2, 2), "float32"), name="kernel")]
    phase = Phase(steps=2, warmup_steps=0, learning_rate=RATE, decay="constant")
    optimizer = build_optimizer(Recipe(phases=(phase,), optimizer=Optimizer(name="lamb")), [2], variables)
    optimizer.apply([keras.ops.zeros((2, 2))], variables)
    np.testing.assert_array_equal(variables[0].numpy(), 0)
    optimizer.apply([keras.ops.ones((2, 2))], variables)
    assert np.all(np.isfinite(variables[0].numpy()))
    assert np.all(variables[0].numpy() < 0)


def test_twenty_updates_of_adamw_equal_torch_s():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape).astype("float32") for shape in SHAPES.values()]
    ours = [keras.Variable(value, name=name) for name, value in zip(SHAPES, start, strict=True)]
    theirs = [torch.nn.Parameter(torch.tensor(value)) for value in start]
    phase = Phase(warmup_steps=0, learning_rate=RATE, decay="constant")
    optimizer = build_optimizer(Recipe(phases=(phase,), optimizer=Optimizer(weight_decay=DECAY)), [20], ours)
    reference = torch.optim.AdamW(
        [{"params": theirs[:1], "weight_decay": DECAY}, {"params": theirs[1:], "weight_decay": 0.0}],
        lr=RATE,
        eps=1e-6,
    )
    for _ in range(20):
        gradients = [rng.normal(size=value.shape).astype("float32") for value in start]
        optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients], ours)
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        reference.step()
    for variable, parameter in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(variable.numpy(), parameter.detach().numpy(), atol=2e-5)


def test_the_learning_rate_is_that_of_the_update_to_come():
    variables = [keras.Variable(np.ones(2, "float32"), name="kernel")]
    optimizer = build_optimizer(Recipe(phases=(Phase(learning_rate=4.0, warmup_steps=2),)), [8], variables)
    actual = []
    for _ in range(3):
        actual.append(float(optimizer.learning_rate))
        optimizer.apply([keras.ops.zeros(2)], variables)
    assert actual == [0, 2, 3]
