from torch import nn

from compressors.evaluating import evaluating


def test_every_module_gets_its_own_mode_back():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    model[0].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, False, True]
