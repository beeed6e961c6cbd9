"""Ways to run a network forwards: torch itself, or a compiled copy by OpenVINO or ONNX Runtime."""
