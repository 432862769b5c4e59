"""Better rounding and bias correction of whole models: what the layers return, and what is said."""

import copy

import pytest
import torch
from torch import nn

from compressors.compressor import GraphEdit
from compressors.context import logits_of
from compressors.errors import UserError
from compressors.graph import trace
from compressors.quantization import flow
from compressors.quantization.layer_rows import rows_of
from compressors.quantization.layerwise import refine
from compressors.recipe import Recipe
from compressors.targets.onnxruntime import OnnxRuntime
from compressors.targets.site_spec import SiteMethod
from tests.conformance.families import build

TARGET = OnnxRuntime()


class Net(nn.Module):
    """Convolutions of every kind that has rows."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 12, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(12)
        self.b, self.c = nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.Conv2d(12, 8, (1, 3), dilation=(1, 2), groups=2)
        self.head = nn.Linear(8, 5, bias=False)

    def forward(self, x):
        x = torch.relu(self.norm(self.a(x)))
        return self.head(torch.relu(self.c(torch.relu(self.b(x)))).mean((2, 3)))


def case():
    torch.manual_seed(0)
    model = Net().eval()
    smooth = nn.functional.interpolate(torch.randn(48, 3, 4, 4), 16, mode="bilinear")
    return model, [{"x": smooth[i : i + 16]} for i in range(0, 48, 16)]


def prepared(model, batches, bits=3, activations="float", **settings):
    inputs = batches[0]
    graph = trace(model, inputs)
    edit: GraphEdit = Recipe.from_plain([{"quantize": {"weight_bits": bits, "activation_bits": activations, **settings}}]).plan(graph, {})[-1]
    made = flow.prepare(copy.deepcopy(model), graph, edit, TARGET, inputs)
    with torch.no_grad():
        for batch in batches:
            made(batch)
    for quantizer in made.quantizers.values():
        quantizer.freeze()
    return made, graph, edit


def quantized(method, model, batches, **settings):
    made, graph, edit = prepared(model, batches, **settings)
    lines = []
    refine(made.module, dict.fromkeys(made.weights, method), batches, seed=0, log=lines.append)
    return flow.finished(made, model, graph, edit, TARGET, batches[0]), lines


def outputs(model, batches):
    with torch.no_grad():
        return torch.cat([logits_of(model(**batch)) for batch in batches])


@pytest.mark.parametrize("activations", ["float", 8])
@pytest.mark.parametrize("rounding", ["gptq", "adaround"])
def test_the_outputs_of_the_model_change_less(rounding, activations):
    model, batches = case()
    exact = outputs(model, batches)
    nearest, _ = quantized(SiteMethod(), model, batches, activations=activations)
    better, lines = quantized(SiteMethod(rounding=rounding), model, batches, activations=activations)
    assert (outputs(better, batches) - exact).square().mean() < 0.7 * (outputs(nearest, batches) - exact).square().mean()
    assert lines[0].startswith(f"quantize: {rounding}: 4 layers; squared error of their outputs 0.")


def test_weights_are_on_the_grid_so_that_a_checkpoint_gives_the_same_integers():
    model, batches = case()
    made, graph, edit = prepared(model, batches)
    scales = {key: quantizer.scale.clone() for key, quantizer in made.weights.items()}
    refine(made.module, dict.fromkeys(made.weights, SiteMethod(rounding="gptq")), batches, seed=0, log=lambda _: None)
    assert all(torch.equal(scales[key], quantizer.scale) for key, quantizer in made.weights.items())
    found = flow.finished(made, model, graph, edit, TARGET, batches[0])
    again = flow.restore(model, graph, edit, TARGET, batches[0], found.prepared_state)
    assert torch.equal(outputs(found, batches), outputs(again, batches))


def test_bias_correction_takes_the_mean_shift_out_of_every_layer_that_has_a_bias():
    model, batches = case()
    model.head.bias = nn.Parameter(torch.zeros(5))
    shifts = []
    for corrected in (False, True):
        found, lines = quantized(SiteMethod(bias_correction=corrected), model, batches)
        shifts.append((outputs(found, batches) - outputs(model, batches)).mean(0).abs().max())
    assert shifts[1] < 1e-4 * shifts[0]
    assert lines == ["quantize: bias correction: 4 layers"]


def test_layers_without_a_bias_say_so():
    model, batches = case()
    _, lines = quantized(SiteMethod(bias_correction=True), model, batches)
    assert lines == ["quantize: bias correction: 3 layers", "quantize: 1 layers have no bias that could take up the shift of their outputs"]


def test_the_model_itself_and_eight_bits_are_left_as_they_are():
    model, batches = case()
    before = copy.deepcopy(model.state_dict())
    made, _, _ = prepared(model, batches, bits=8)
    state = made.state()
    refine(made.module, dict.fromkeys(made.weights, SiteMethod(rounding="gptq")), batches, seed=0, log=lambda _: None)
    assert all(torch.equal(value, made.state()[name]) for name, value in state.items())
    quantized(SiteMethod(rounding="gptq", bias_correction=True), model, batches)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_padded_places_of_texts_decide_nothing():
    model, _ = build("bert")
    torch.manual_seed(0)
    texts = [{"input_ids": torch.randint(2, 60, (16, 10)), "attention_mask": torch.ones(16, 10, dtype=torch.long)} for _ in range(2)]
    for batch in texts:
        batch["attention_mask"][:, 6:] = 0
    others = [{**batch, "input_ids": torch.where(batch["attention_mask"].bool(), batch["input_ids"], 7)} for batch in texts]
    states = []
    for batches in (texts, others):
        made, _, _ = prepared(model, texts, bits=4)
        refine(made.module, dict.fromkeys(made.weights, SiteMethod(rounding="gptq")), batches, seed=0, log=lambda _: None)
        states.append(made.state())
    changed = [name for name in states[0] if not torch.allclose(states[0][name], states[1][name], atol=1e-6)]
    assert not [name for name in changed if "layer.0" in name]


def test_too_little_data_is_one_clear_error():
    model, batches = case()
    method = SiteMethod(rounding="gptq")
    made, _, _ = prepared(model, batches)
    with pytest.raises(UserError, match="has 5 examples; accepted: 8 or more"):
        refine(made.module, dict.fromkeys(made.weights, method), [{"x": batches[0]["x"][:5]}], seed=0, log=lambda _: None)
    with pytest.raises(UserError, match="48 examples of the calibration split are all equal"):
        refine(made.module, dict.fromkeys(made.weights, method), [{"x": torch.ones(16, 3, 16, 16)}] * 3, seed=0, log=lambda _: None)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
        nn.Conv2d(4, 8, 3, groups=4),
        nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2),
        nn.Linear(4, 6),
    ],
    ids=str,
)
def test_a_layer_is_a_product_of_its_rows(layer):
    x = torch.randn(3, 4, 9, 9) if isinstance(layer, nn.Conv2d) else torch.randn(3, 4, 9) if isinstance(layer, nn.Conv1d) else torch.randn(3, 5, 4)
    module = torch.export.export(layer, (x,)).module()
    node = next(n for n in module.graph.nodes if n.op == "call_function" and ("conv" in str(n.target) or "linear" in str(n.target)))
    rows = rows_of(node, layer.weight.shape)
    products = torch.einsum("rgi,goi->rgo", rows.inputs(x), rows.matrix(layer.weight)).flatten(1) + layer.bias
    torch.testing.assert_close(products, rows.outputs(layer(x)))
