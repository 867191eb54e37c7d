"""FlowGMM for vectors, a scikit-learn classifier and density; only the package's own __init__ imports it."""
