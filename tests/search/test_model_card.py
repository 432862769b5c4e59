from evaluators.metric import EXACT
from search.figures import figure


def test_the_overhead_of_the_file_is_stated(artifact):
    import json

    card = (artifact / "README.md").read_text()
    whole = (artifact / "model.onnx").stat().st_size
    promised = json.loads((artifact / "metrics.json").read_text())["metrics"]["size_bytes"]["value"]
    size = EXACT["size_bytes"]
    assert f"The file has {figure(size, whole)}" in card
    assert f"the graph around the weights is {figure(size, whole - promised)} of it" in card


def test_its_example_runs(artifact, monkeypatch):
    """The code of the card, on this folder."""
    import numpy as np

    card = (artifact / "README.md").read_text()
    ours, plain = (block.split("```")[0] for block in card.split("```python\n")[1:])
    image = np.zeros((8, 8), dtype=np.uint8)
    found: dict = {}
    monkeypatch.chdir(artifact)
    exec(
        ours.replace('"this folder"', '"."').replace('[PIL.Image.open("image.png")]', "[image]").replace("predict([", "found = predict(["),
        {"image": image},
        found,
    )
    assert found["found"]["logits"].shape == (1, 10)
    names = {"image": np.zeros((2, 1, 8, 8), np.float32)}
    exec(plain, names)
    assert names["logits"].shape == (2, 10)
