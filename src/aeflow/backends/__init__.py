"""What runs a model: torch, OpenVINO or ONNX Runtime. Each gives the same raw measures; none calibrates."""
