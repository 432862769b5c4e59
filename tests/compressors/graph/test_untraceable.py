"""What is said of models that cannot be traced, and of example inputs that do not fit."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from compressors.errors import TraceError
from compressors.graph import trace


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)


class Branch(Layer):
    def forward(self, x):
        return self.linear(x) if x.sum() > 0 else x


class Count(Layer):
    def forward(self, x):
        return self.linear(x)[: int(x.argmax())]


class Selection(Layer):
    def forward(self, x):
        return self.linear(x)[x > 0].sum()


class Foreign(Layer):
    def forward(self, x):
        return self.linear(torch.from_numpy(np.tanh(x.numpy())))


class Unknown(Layer):
    def forward(self, x):
        return self.linear(torch.ops.compareto_tests.double(x))


class Result:
    pass


class Opaque(Layer):
    def forward(self, x):
        return Result()


@pytest.fixture
def library():
    made = torch.library.Library("compareto_tests", "FRAGMENT")
    made.define("double(Tensor x) -> Tensor")
    made.impl("double", lambda x: 2 * x, "CPU")
    yield
    made._destroy()


@pytest.mark.parametrize(
    ("model", "said", "line", "remedy"),
    [
        (Branch, "depends on the value of a tensor", "return self.linear(x) if x.sum() > 0 else x", r"torch\.where \(or torch\.cond\)"),
        (Count, "depends on the value of a tensor", "return self.linear(x)[: int(x.argmax())]", "constants in place of numbers"),
        (Selection, "the size of what aten.index.Tensor returns depends on the values", "return self.linear(x)[x > 0].sum()", "multiply by a mask"),
        (Foreign, r"\.numpy\(\) is not supported", "np.tanh(x.numpy())", "call no code outside torch"),
        (Unknown, "shape that the op compareto_tests::double returns", "torch.ops.compareto_tests.double(x)", r"register_fake\('compareto_tests::double'\)"),
        (Opaque, "Result.* in output", "", "return tensors, in a tuple, a dict"),
    ],
)
def test_what_cannot_be_traced_is_named_with_its_line_and_a_remedy(library, capfd, model, said, line, remedy):
    with pytest.raises(TraceError, match=said) as caught:
        trace(model(), {"x": torch.rand(2, 4)})
    message = str(caught.value)
    assert model.__name__ in message.splitlines()[0]
    assert line in message
    assert not line or "test_untraceable.py" in message
    assert re.search(f"what to change: .*{remedy}", message)
    assert capfd.readouterr().err == "", "torch prints the graph so far"


def test_inputs_of_the_wrong_shape_name_the_module_that_does_not_take_them():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    with pytest.raises(TraceError, match=r"does not run on the example inputs \(0: \[2, 3, 9, 9\] float32\)(.|\n)*in module 3: Linear\(in_features=144"):
        trace(model, (torch.zeros(2, 3, 9, 9),))
    with pytest.raises(TraceError, match=r"images: \[2, 3, 8, 8\](.|\n)*accepted: forward\(input\)"):
        trace(model, {"images": torch.zeros(2, 3, 8, 8)})


def test_inputs_that_do_not_fit_one_another(families):
    model, inputs = families("bert")
    with pytest.raises(TraceError, match=r"attention_mask: \[2, 3\](.|\n)*give example inputs whose sizes fit the model and one another"):
        trace(model, {**inputs, "attention_mask": torch.ones(2, 3, dtype=torch.long)})


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (torch.zeros(2, 4), r"got Tensor; of one tensor x it is \(x,\)"),
        ("x", "got str"),
        (None, "got NoneType"),
        (([1.0],), "example input '0' must be a tensor, got list"),
        ({"input": 1}, "example input 'input' must be a tensor, got int"),
    ],
)
def test_example_inputs_are_a_tuple_or_a_mapping_of_tensors(inputs, said):
    with pytest.raises(TraceError, match=said):
        trace(nn.Linear(4, 4), inputs)


def test_a_model_that_cannot_be_traced_is_left_as_it_was():
    model = Branch().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(TraceError):
        trace(model, (torch.rand(2, 4),))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
