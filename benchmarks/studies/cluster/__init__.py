"""Study of the plan for 100 million images: a discrete simulation of a cluster beside the formulas of docs/scale.md."""
