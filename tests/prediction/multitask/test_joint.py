import numpy as np
import pytest
import torch

from ehr_bert.prediction.batches import collate
from ehr_bert.prediction.encoders import bert_encoder
from ehr_bert.prediction.fitting import predict_logits
from ehr_bert.prediction.multitask.joint import JointPredictor, fit_joint
from ehr_bert.prediction.multitask.losses import loss_of, score_of
from ehr_bert.prediction.multitask.visits import PastEncoder, past_mask
from ehr_bert.prediction.optimization import FitSettings, OptimizerStep, Runtime, parameter_groups
from ehr_bert.schemas import Split, TaskKind


def joint_of(folder, data, seed=1):
    return JointPredictor(bert_encoder(folder / "model"), data, "mean", seed)


def test_an_update_for_one_task_leaves_the_other_heads_as_they_are(folder, data):
    joint = joint_of(folder, data).train()
    settings = FitSettings(learning_rate=0.01, weight_decay=0.3)
    update = OptimizerStep(parameter_groups(joint.encoder, joint.heads, settings), 100, settings, Runtime())

    def step(task):
        side = data[task].splits[Split.TRAIN]
        update(lambda batch: joint(batch, task), side.inputs, np.arange(7), loss_of(side.labels))

    for task in range(len(data)):  # so that every head has moments, which could move it
        step(task)
    for task in range(len(data)):
        weights = {name: weight.clone() for name, weight in joint.named_parameters()}
        moments = {
            weight: {name: value.clone() for name, value in state.items()}
            for weight, state in update.optimizer.state.items()
        }
        step(task)
        changed = {
            name for name, weight in joint.named_parameters() if not torch.equal(weight, weights[name])
        }
        assert {name for name in changed if ".head." in name} == {
            f"predictors.{task}.head.linear.{name}" for name in ("weight", "bias")
        }
        assert any(name.startswith("encoder.") for name in changed)
        for number, predictor in enumerate(joint.predictors):
            if number != task:
                for weight in predictor.head.parameters():
                    for name, value in moments[weight].items():
                        assert torch.equal(update.optimizer.state[weight][name], value)


def test_a_visit_sees_itself_and_earlier_ones_alone(folder, data):
    (number,) = (place for place, task_data in enumerate(data) if task_data.task.type.name == TaskKind.VISITS)
    inputs = data[number].splits[Split.TRAIN].inputs
    predictor = joint_of(folder, data).predictors[number]
    row = int(np.argmax(inputs.lengths))
    batch = collate(inputs, np.array([row, 0, 1]))
    visits = int(batch.visits[0])
    assert visits > 2
    logits = predictor(batch)[0].detach()
    for later in range(2, visits + 1):
        replaced = batch.visit_ids[0] >= later
        batch.token_ids[0, replaced] = 5 + (batch.token_ids[0, replaced] - 4) % 11
        again = predictor(batch)[0].detach()
        torch.testing.assert_close(again[: later - 1], logits[: later - 1])
        assert not torch.allclose(again[later - 1 : visits], logits[later - 1 : visits])
        logits = again
    assert isinstance(predictor.encoder, PastEncoder)
    mask = past_mask(batch)
    assert mask.shape == (3, 1, *[batch.token_ids.shape[1]] * 2)
    assert mask.any(dim=-1).all()


def test_an_earlier_visit_is_seen(folder, data):
    (number,) = (place for place, task_data in enumerate(data) if task_data.task.type.name == TaskKind.VISITS)
    inputs = data[number].splits[Split.TRAIN].inputs
    predictor = joint_of(folder, data).predictors[number]
    batch = collate(inputs, np.array([int(np.argmax(inputs.lengths))]))
    logits = predictor(batch)[0].detach()
    batch.token_ids[0, batch.visit_ids[0] == 1] = 7
    visits = int(batch.visits[0])
    assert not torch.allclose(predictor(batch)[0, 1:visits], logits[1:visits])


@pytest.fixture(scope="module")
def trained(folder, data):
    settings = FitSettings(learning_rate=0.01, epochs=25, batch_examples=8, evaluate_updates=25, patience=6)
    joint = joint_of(folder, data)
    return joint, fit_joint(joint, data, settings, 0.5, seed=4)


def test_all_tasks_are_learnt_together(trained, data):
    joint, fitted = trained
    assert fitted.valid["explained"] == pytest.approx(
        np.mean([fitted.valid[f"{task_data.task.name}.explained"] for task_data in data])
    )
    for task_data, predictor in zip(data, joint.predictors, strict=True):
        valid = task_data.splits[Split.VALID]
        explained = score_of(valid.labels)(predict_logits(predictor, valid.inputs))["explained"]
        assert explained == pytest.approx(fitted.valid[f"{task_data.task.name}.explained"], abs=1e-5)
        assert explained > 0.1, task_data.task.name


def test_the_same_seed_gives_the_same_weights(folder, data):
    settings = FitSettings(learning_rate=0.01, epochs=1, least_updates=6, evaluate_updates=3)
    joints = [joint_of(folder, data) for _ in range(2)]
    for joint in joints:
        fit_joint(joint, data, settings, 0.5, seed=4)
    for one, other in zip(*(joint.parameters() for joint in joints), strict=True):
        assert torch.equal(one, other)
