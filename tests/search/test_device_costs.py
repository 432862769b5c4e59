from compressors.graph.stored import read_graph
from search.device_costs import study_device


def test_another_runtime_prices_the_same_but_says_that_its_figures_are_carried_over(trained):
    from compressors.graph.stored import graph_json
    from search.loading import load_experiment

    graph = read_graph(graph_json(load_experiment(trained.experiment).graph))
    own, carried = (study_device("pixel-7/litert", target, None) for target in ("litert", "onnxruntime"))
    here, there = (model.cost(graph, graph.baseline()) for model in (own, carried))
    assert {name: values.value.tolist() for name, values in here.items()} == {name: values.value.tolist() for name, values in there.items()}
    assert {values.tier for values in there.values()} == {"transferred"}
    assert carried.tier == "transferred" != own.tier


def test_in_blocks_a_candidate_costs_the_same_whatever_it_is_priced_with(trained):
    import numpy as np

    from compressors.graph import Shapes
    from search.device_costs import in_blocks
    from search.loading import load_experiment

    graph = load_experiment(trained.experiment).graph
    rng, plain = np.random.default_rng(0), graph.baseline()
    widths = np.where(plain.widths > 1, rng.integers(1, np.maximum(plain.widths, 1) + 1, (37, plain.widths.shape[1])), plain.widths)
    many = Shapes(widths, *(np.repeat(getattr(plain, name), 37, axis=0) for name in Shapes.__dataclass_fields__ if name != "widths"))
    model = study_device("jetson-orin-nano/onnxruntime", "onnxruntime", None)

    def price(block, rates):
        return [{"latency_ms": model.cost(graph, block)["latency_ms"].estimate(i)} for i in range(len(block))]

    def priced(shapes):
        return [row["latency_ms"].high for row in in_blocks(shapes, None, price)]

    together = priced(many)
    assert len(together) == 37
    assert together == [priced(many[i : i + 1])[0] for i in range(37)]
