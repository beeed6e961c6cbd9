"""How far an explanation can be trusted: measures, and the reliability card that sums them up. See docs/reliability.md."""
