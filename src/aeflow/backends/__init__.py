"""Ways to run a model (torch, OpenVINO, ONNX Runtime), uncalibrated; features, scoring and above may import them."""
