"""Calibration of the machine at hand: small ONNX models, timed with care, and the rates that explain the times."""
