import dataclasses
import time
from itertools import pairwise

import pytest
import tensorflow as tf

from ehr_bert.examples.layout import Layout
from ehr_bert.model.pretraining import build_model
from ehr_bert.training.flops import measured_flops_per_second, product_shapes, training_flops
from tests.model.small import SMALL, random_batch
from tests.objectives.enabled import BOTH


def sums(real_tokens, masked_codes, patients):
    return {"real_tokens": real_tokens, "masked_lm_count": masked_codes, "next_sentence_count": patients}


def forward_products(config, layout):
    """Operations of all products in TensorFlow's own graph of the model: two for each multiplication."""
    model = build_model(config, seed=1)
    batch = random_batch(layout=layout)
    graph = tf.function(lambda values: model(values, layout=layout)).get_concrete_function(batch).graph
    total = 0

    def count(operations):
        nonlocal total
        for operation in operations:
            if operation.type in ("MatMul", "BatchMatMulV2"):
                rows = operation.outputs[0].shape.num_elements()
                left = operation.inputs[0].shape
                transposed = "transpose_a" in operation.node_def.attr and operation.get_attr("transpose_a")
                total += 2 * rows * left[0 if transposed else -1]
            elif operation.type == "PartitionedCall":
                name = operation.get_attr("f").name
                count(graph._get_function(name).graph.get_operations())

    count(graph.get_operations())
    return total


@pytest.mark.parametrize(
    ("windows", "shape"),
    [
        (((5, 7),), {}),
        (((5, 7), (3, 11)), {}),
        (((2, 11),), {"num_hidden_layers": 1, "intermediate_size": 9, "hidden_size": 6}),
    ],
)
def test_the_formula_counts_the_products_in_tensorflow_s_graph(windows, shape):
    config = dataclasses.replace(SMALL, **shape)
    layout = Layout(windows, masked=13, patients=17)
    actual = training_flops(
        config, layout, BOTH.values(), sums(layout.positions, layout.masked, layout.patients)
    )
    assert actual == 3 * forward_products(config, layout)


def test_work_grows_with_each_of_its_parts_alone():
    layout = Layout(((5, 7),), 13, 17)
    steps = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1)]
    actual = [training_flops(SMALL, layout, BOTH.values(), sums(*step)) for step in steps]
    assert actual[0] == 0
    assert all(one < other for one, other in pairwise(actual))


def test_the_fastest_product_of_this_device_is_measured():
    shapes = product_shapes(dataclasses.replace(SMALL, vocab_size=65), Layout(((50, 64),), 130, 17))
    assert shapes == [(3200, 12, 12), (130, 12, 65)]
    for precision in ("float32", "bfloat16"):
        rate = measured_flops_per_second(precision, shapes)
        assert rate.shape in shapes
        assert 1e6 < rate.flops_per_second < 1e16


def test_a_rate_is_of_the_order_of_a_product_timed_by_hand():
    size = 512
    rate = measured_flops_per_second("float32", [(size, size, size)])
    values = tf.random.normal((size, size))
    tf.matmul(values, values).numpy()
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        tf.matmul(values, values).numpy()
        seconds.append(time.perf_counter() - start)
    assert 0.1 < rate.flops_per_second * min(seconds) / (2 * size**3) < 10
