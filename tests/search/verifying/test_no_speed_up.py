from search.verifying.no_speed_up import reasons


def test_an_integer_model_that_is_pruned_oddly(artifact, plain):
    found = reasons(artifact / "model.onnx", plain, "onnxruntime")
    assert found[0] == (
        "1 of 5 products run in float on what is converted at every run; first head (Gemm), its weight behind DequantizeLinear and its activation behind "
        "DequantizeLinear"
    )
    assert found[1].startswith("3 of 5 layers have widths that are no multiple of 8, to which kernels fill up; first ")
    assert found[1].endswith(" with 12")
    assert found[2] == "conversions that the uncompressed model does not run: 3 DequantizeLinear, 2 QuantizeLinear, 2 Transpose"


def test_the_same_kernels(plain):
    (found,) = reasons(plain, plain, "onnxruntime")
    assert found.startswith("the same kernels run as without compression (4 Conv, ")
    assert found.endswith("): only the stored weights are smaller")


def test_other_runtimes_are_asked_which_operators_they_run(tmp_path, monkeypatch):
    class Runtime:
        @staticmethod
        def executed_operators(path):
            return {"CONV_2D": 4, "DEQUANTIZE": 2, "QUANTIZE": 1} if path.stem == "compressed" else {"CONV_2D": 4}

    monkeypatch.setattr("search.verifying.no_speed_up.target_named", lambda _: Runtime)
    compressed, plain = tmp_path / "compressed.tflite", tmp_path / "plain.tflite"
    assert reasons(compressed, plain, "litert") == ["conversions that the uncompressed model does not run: 2 DEQUANTIZE, 1 QUANTIZE"]
    assert reasons(plain, plain, "litert") == ["the same kernels run as without compression (4 CONV_2D): only the stored weights are smaller"]
    monkeypatch.setattr("search.verifying.no_speed_up.target_named", lambda _: object())
    assert reasons(plain, plain, "other") == ["other does not say which kernels it runs"]


def test_narrow_weights_in_float_arithmetic_and_fallbacks_are_named(tmp_path, monkeypatch):
    class Runtime:
        @staticmethod
        def executed_operators(path):
            if path.stem == "plain":
                return {"xnnpack.Conv2d[float32 x float32]": 4, "xnnpack.delegate": 1}
            return {"xnnpack.Conv2d[float32 x qcint8]": 4, "xnnpack.delegate": 3, "portable.aten::embedding": 2, "portable.quantized_decomposed::dequantize": 1}

    monkeypatch.setattr("search.verifying.no_speed_up.target_named", lambda _: Runtime)
    assert reasons(tmp_path / "compressed.pte", tmp_path / "plain.pte", "executorch") == [
        "products in float that widen narrow weights at every run: 4 xnnpack.Conv2d[float32 x qcint8]",
        "operators that fall back to kernels that are not the fast ones: 2 portable.aten::embedding, 1 portable.quantized_decomposed::dequantize",
    ]
