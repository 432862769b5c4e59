import pydantic
import pytest
import torch
import transformers
from torch import nn

from compressors.context import Batch
from compressors.errors import CompressionError
from compressors.graph import trace
from compressors.graph.surgery import cut
from compressors.intermediate import Attention, Features, Intermediate, layer_names, layer_problems


class Convolutions(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(nn.ReLU(), nn.Conv2d(width, 16, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


IMAGES = {"x": torch.randn(4, 3, 8, 8)}


def bert():
    torch.manual_seed(0)
    size = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24, "num_labels": 3}
    return transformers.BertForSequenceClassification(transformers.BertConfig(**size, max_position_embeddings=12, attn_implementation="sdpa")).eval()


TOKENS = {"input_ids": torch.randint(0, 40, (4, 10)), "attention_mask": torch.ones(4, 10, dtype=torch.long)}


def loss(matching, student, teacher, inputs):
    student(**inputs)
    with torch.no_grad():
        teacher(**inputs)
    return matching(Batch(inputs, torch.zeros(4, dtype=torch.long)))


def matching(student, teacher, inputs, features=None, attention=None):
    torch.manual_seed(0)
    made = Features(**features) if features is not None else None, Attention(**attention) if attention is not None else None
    return Intermediate(student, teacher, *made, inputs)


def test_a_model_matches_itself():
    model = Convolutions().eval()
    same = matching(model, model, IMAGES, {"layers": ["stem", "body"]}, {"layers": ["body"]})
    assert float(loss(same, model, model, IMAGES).detach()) == pytest.approx(0, abs=1e-6)


def test_a_narrower_student_learns_to_match_through_a_projection_that_is_no_part_of_it():
    torch.manual_seed(0)
    teacher, student = Convolutions(8).eval(), Convolutions(3).eval()
    names = set(student.state_dict())
    hints = matching(student, teacher, IMAGES, {"layers": "stem", "weight": 2.0})
    optimizer = torch.optim.Adam([*student.parameters(), *hints.parameters()], lr=0.02)
    losses = []
    for _ in range(60):
        value = loss(hints, student, teacher, IMAGES)
        losses.append(value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    assert set(student.state_dict()) == names
    hints.close()
    assert not student.stem._forward_hooks
    assert not teacher.stem._forward_hooks


class Series(nn.Module):
    """Convolutions over time, then layers on ``[examples, time, channels]``, of as many moments as channels."""

    def __init__(self, width):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(3, width, 3, padding=1), nn.BatchNorm1d(width), nn.ReLU())
        self.mix = nn.Linear(width, 8)

    def forward(self, x):
        return self.mix(self.stem(x).transpose(1, 2)).mean(1)


def test_a_projection_of_series_mixes_channels_and_not_moments():
    torch.manual_seed(0)
    inputs, teacher, student = {"x": torch.randn(4, 3, 8)}, Series(8).eval(), Series(5).eval()
    hints = matching(student, teacher, inputs, {"layers": ["stem", "mix"]})
    assert [tuple(p.weight.shape) for p in hints.projections.values()] == [(8, 5), (8, 8)]
    torch.nn.init.zeros_(hints.projections["p0"].weight)
    hints.projections["p0"].bias.data = torch.arange(8.0)
    student(**inputs)
    with torch.no_grad():
        teacher.stem[0].weight.zero_()
        teacher.stem[0].bias.copy_(torch.arange(8.0))
        teacher(**inputs)
    # A bias by channel is all that a teacher of constant channels needs.
    constant = hints._watched[1].map("features", "stem")
    assert torch.allclose(hints.projections["p0"](hints._watched[0].map("features", "stem")), constant, rtol=1e-4)


def test_spatial_attention_has_no_width():
    teacher, student = Convolutions(8).eval(), Convolutions(3).eval()
    value = loss(matching(student, teacher, IMAGES, attention={"layers": ["stem"]}), student, teacher, IMAGES)
    assert 0 < value.item() < 2
    value.backward()
    assert student.stem.weight.grad.abs().sum() > 0


def test_the_probabilities_of_a_transformer_are_found_and_its_implementation_comes_back():
    teacher, student = bert(), bert()
    with torch.no_grad():
        student.bert.encoder.layer[1].attention.self.query.weight.mul_(-2)
    maps = matching(student, teacher, TOKENS, attention={})
    assert student.config._attn_implementation == teacher.config._attn_implementation == "eager"
    assert len(maps._pairs["attention"]) == 3
    value = loss(maps, student, teacher, TOKENS)
    value.backward()
    assert value.item() > 1e-6
    maps.close()
    assert student.config._attn_implementation == teacher.config._attn_implementation == "sdpa"


def test_padding_does_not_count():
    teacher, student = bert(), bert()
    with torch.no_grad():
        student.bert.encoder.layer[0].output.dense.weight.add_(0.1 * torch.randn(16, 24))
    hints = matching(student, teacher, TOKENS, {"layers": ["bert.encoder.layer.0"]}, {})
    short = {name: value[:, :6] for name, value in TOKENS.items()}
    padded = {"input_ids": TOKENS["input_ids"], "attention_mask": TOKENS["attention_mask"].clone()}
    padded["attention_mask"][:, 6:] = 0
    assert loss(hints, student, teacher, padded).item() == pytest.approx(loss(hints, student, teacher, short).item(), rel=1e-4)


def test_behind_a_dropped_block_the_stream_looks_like_the_teachers_behind_it():
    teacher = bert()
    graph = trace(teacher, TOKENS)
    (stack,) = [axis for axis in graph.axes if axis.kind == "blocks"]
    student = cut(teacher, graph, {stack.name: [0, 2]})
    hints = matching(student, teacher, TOKENS, {"layers": ["bert.encoder.layer.?"]}, {"layers": ["*.attention.self"]})
    assert [pair.theirs for pair in hints._pairs["features"]] == ["bert.encoder.layer.1", "bert.encoder.layer.2"]
    assert len(hints._pairs["attention"]) == 2, "what lies in the dropped block has no counterpart"
    assert torch.isfinite(loss(hints, student, teacher, TOKENS))


def test_a_student_with_fewer_heads_matches_their_mean():
    teacher = bert()
    graph = trace(teacher, TOKENS)
    heads = {axis.name: [0, 2] for axis in graph.axes if axis.kind == "heads"}
    student = cut(teacher, graph, heads)
    assert torch.isfinite(loss(matching(student, teacher, TOKENS, attention={}), student, teacher, TOKENS))


def test_a_teacher_of_another_architecture_is_named_layer_by_layer():
    student, teacher = Convolutions(4).eval(), nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 5)).eval()
    teacher.forward = lambda x: nn.Sequential.forward(teacher, x)  # takes its input by keyword
    hints = matching(student, teacher, IMAGES, {"layers": {"body": "1"}})
    assert torch.isfinite(loss(hints, student, teacher, IMAGES))
    with pytest.raises(CompressionError, match="'bodi' is no module of the student; did you mean 'body'"):
        matching(student, teacher, IMAGES, {"layers": {"bodi": "1"}})
    with pytest.raises(CompressionError, match="'7' is no module of the teacher"):
        matching(student, teacher, IMAGES, {"layers": {"body": "7"}})


def test_what_gives_no_map_is_said():
    model = Convolutions().eval()
    with pytest.raises(CompressionError, match=r"attention: head gives no map to match, but float32 \[4, 5\]; accepted: .* attention probabilities"):
        matching(model, model, IMAGES, attention={"layers": ["head"]})
    with pytest.raises(CompressionError, match="no module of the student returns attention probabilities"):
        matching(model, model, IMAGES, attention={})
    with pytest.raises(CompressionError, match="'sten' is no module of the teacher; did you mean 'stem'"):
        matching(model, model, IMAGES, {"layers": ["sten"]})
    assert not model.stem._forward_hooks


def test_names_are_those_of_the_trace():
    graph = trace(Convolutions().eval(), IMAGES)
    assert {"stem", "body", "body.1", "head"} <= set(layer_names(graph))
    assert list(layer_problems(layer_names(graph), ("body.*", "boddy"))) == ["'boddy' is no module of the model; did you mean 'body'?"]


@pytest.mark.parametrize("config", [{}, {"layers": []}, {"layers": {}}, {"layers": ["a"], "weight": 0}, {"layers": ["a"], "depth": 2}])
def test_a_specification_is_checked(config):
    with pytest.raises(pydantic.ValidationError):
        Features(**config)
