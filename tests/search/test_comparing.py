from search.comparing import dominated_baselines, summary


def test_a_trial_dominates_the_baselines_that_are_nowhere_better(study):
    results = study()
    objectives = results.objectives("accuracy", "size_bytes")
    assert dominated_baselines(results, results.record("0001"), objectives, "report") == ("prune-50",)
    assert dominated_baselines(results, results.record("0001"), results.objectives("size_bytes"), "report") == ("fp32", "int8", "prune-50")


def test_a_summary_names_the_device_where_several_are_meant(study):
    results = study()
    assert summary(results, results.record("0001")) == "parameters -80 %, accuracy -3.5 points, latency 0.20x, size -80 %"
    both = study(overrides=["objectives=[accuracy, latency_ms]"])
    assert summary(both, both.record("0001")).endswith("latency 0.20x on raspberry-pi-5/onnxruntime, latency 0.20x on pixel-7/onnxruntime")
