import pytest
import torch


@pytest.fixture
def networks(script):
    return script("aihub_networks")


def test_a_network_and_its_twin_differ_in_what_they_compute_in(networks):
    plain, twin, millions = networks.layers(networks.NETWORKS["yamnet"])
    assert millions == pytest.approx(3.73, rel=0.01)
    assert sum(layer["macs"] for layer in plain) == pytest.approx(69e6, rel=0.01)
    assert [layer["macs"] for layer in twin] == [layer["macs"] for layer in plain]
    assert not any(layer.get("int8") for layer in plain)
    assert all(layer.get("int8") for layer in twin if layer["macs"])


@pytest.mark.parametrize(("name", "millions"), [("unet_segmentation", 31.0), ("deeplabv3_plus_mobilenet", 5.80), ("trocr/TrOCRDecoder", 22.06)])
def test_networks_written_here_have_the_published_parameters(networks, name, millions):
    with torch.device("meta"):
        model = networks.NETWORKS[name].build()
    assert sum(p.numel() for p in model.parameters()) * 1e-6 == pytest.approx(millions, rel=0.01)
