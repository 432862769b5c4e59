import numpy as np
import pytest


@pytest.fixture
def variants(script):
    return script("transformer_variants")


ROW = {
    "encoder_embed_dim": 512.0,
    "encoder_layer_num": 6.0,
    "encoder_ffn_embed_dim_avg": 2048.0,
    "decoder_embed_dim": 512.0,
    "decoder_layer_num": 4.0,
    "decoder_ffn_embed_dim_avg": 2048.0,
    "decoder_arbitrary_ende_attn_avg": 1.0,
}


def test_a_decoder_reads_its_weights_for_every_token(variants):
    encoder, decoder = (variants.kernels(ROW, part) for part in ("encoder", "decoder"))
    assert sum(k.macs for k in encoder) == pytest.approx(30 * sum(k.weights for k in encoder), rel=0.01)
    assert sum(k.macs for k in decoder) == pytest.approx(sum(k.weights for k in decoder), rel=0.01)
    wider = variants.kernels(ROW | {"encoder_ffn_embed_dim_avg": 3072.0}, "encoder")
    assert sum(k.macs for k in wider) > sum(k.macs for k in encoder)


def test_anchors_tell_the_rest(variants):
    from evaluators.devices.fitting.features import work
    from evaluators.devices.fitting.forms import PROCESSOR
    from evaluators.devices.fitting.pooled import Prior

    rng = np.random.default_rng(0)
    rows = [ROW | {"encoder_layer_num": float(rng.integers(1, 7)), "encoder_ffn_embed_dim_avg": float(rng.choice([512, 1024, 2048]))} for _ in range(40)]
    amounts = np.stack([work(variants.kernels(row, "encoder")) for row in rows])
    ms = amounts @ np.array(list(PROCESSOR.typical.values())) * 3
    size = len(PROCESSOR.features)
    prior = Prior(np.stack([np.log(list(PROCESSOR.typical.values())), np.zeros(size)]), np.ones((size, size)) + 0.1 * np.eye(size), 0.1, np.eye(size))
    found = variants.predicted(prior, amounts, np.ones((40, 1)), ms, np.arange(5))
    assert np.abs(found / ms - 1).max() < 0.1
