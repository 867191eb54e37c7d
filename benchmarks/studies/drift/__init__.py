"""Study of `aeflow drift`: false alarms on long streams, and delays after a change of scanner, on chest X-rays."""
