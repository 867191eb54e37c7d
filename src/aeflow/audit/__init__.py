"""NEW WING aeflow.audit."""
